// Browsers refuse workers to pages that are opened from disk: there the search's worker runs in a hidden frame.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      this.inner = frame.contentWindow;
      this.inner.answer = (data) => setTimeout(() => this.receive(new MessageEvent("message", { data })));
      this.loaded = new Promise((resolve) => (this.inner.ready = resolve));
      const page = this.inner.document;
      page.open();
      page.write(`<script>postMessage = (data) => answer(data)</script><script src="${url}" onload="ready()"></script>`);
      page.close();
    }
    receive(event) {
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }
    postMessage(message) {
      const data = this.inner.structuredClone(message);
      this.loaded.then(() => this.inner.dispatchEvent(new this.inner.MessageEvent("message", { data })));
    }
    terminate() {
      this.inner.frameElement.remove();
    }
  };
}
