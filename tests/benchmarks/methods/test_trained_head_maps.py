"""Maps of trained heads: they are the head's evidence for the model's class, enlarged as all maps of the layer are."""

import dataclasses

import pytest
import torch

from benchmarks.methods import LEARNERS
from benchmarks.methods.learners import TrainingClips
from benchmarks.methods.query import ClassifiedClips
from benchmarks.methods.trained_head_maps import SHOWN, head_learner
from captum_apex.attribution import projection
from tests.benchmarks.methods.queries import maps, random_query


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("architecture", ["cnn", "convnext"])
def test_the_map_is_the_evidence_for_the_models_class_enlarged(name, architecture):
    query = random_query(architecture, torch.float64)
    head = query.network(head_learner(SHOWN[name]))
    kept = []
    hook = query.layer.register_forward_hook(lambda *arguments: kept.append(arguments[2]))
    with torch.no_grad():
        query.model(query.inputs)
    hook.remove()
    for target in (query.target, 4 - query.target):
        evidence = head.evidence(kept[0], target)
        wanted = projection.enlarged(evidence, query.inputs, "n c f t", query.places)
        found = maps(name, dataclasses.replace(query, target=target))[0]
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_head_is_trained_on_the_features_and_the_true_labels(monkeypatch):
    query = random_query(clips=4)
    shared = {each.name: getattr(query, each.name) for each in dataclasses.fields(ClassifiedClips)}
    labels = torch.tensor([3, 1, 0, 2])
    given = []
    monkeypatch.setattr("benchmarks.methods.trained_head_maps.train_head", lambda *arguments: given.append(arguments))
    learner = LEARNERS[head_learner("AudioProtoPNet, 5 prototypes")]
    network = learner.build(query)
    learner.train(network, TrainingClips(**shared, labels=labels))
    ((head, features, trained_on),) = given
    assert head is network
    assert tuple(network.prototypes.shape) == (5, 5, 128)
    assert torch.equal(trained_on, labels)
    with torch.no_grad():
        torch.testing.assert_close(features, query.model.features(query.inputs))
