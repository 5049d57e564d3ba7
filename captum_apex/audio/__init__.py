"""A clip as people see and hear it: its axes in Hz and seconds, its spectrogram in dB, and regions of it."""
