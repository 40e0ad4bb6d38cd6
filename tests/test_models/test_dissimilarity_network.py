# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import copy
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mgcda  # noqa: F401
from mgcda.models.decode_heads import dissimilarity_head
from mgcda.scores import build_score
from mgcda.structures.dissimilarity import split_channels

TINY_HEAD = dict(
    type='DissimilarityDecodeHead',
    in_channels=(4, 8, 16, 32),
    fusion_channels=(4, 6, 8, 10),
    semantic_channels=(3, 4, 5, 6),
    decoder_channels=(4, 5, 6, 7),
    spade_channels=8)


class Pyramid(torch.nn.Module):
    """Four levels of convolutions, strides 1, 2, 4, 8."""

    def __init__(self):
        super().__init__()
        widths = (3, 4, 8, 16, 32)
        self.levels = torch.nn.ModuleList(
            torch.nn.Conv2d(widths[i], widths[i + 1], 3, stride=1 if i == 0 else 2, padding=1) for i in range(4))
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        outs = []
        for level in self.levels:
            x = level(x).relu()
            outs.append(x)
        return tuple(outs)


@pytest.fixture(autouse=True)
def registered():
    init_default_scope('mmseg')
    MODELS.register_module(name='TestPyramid', module=Pyramid, force=True)


def build(**kwargs):
    torch.manual_seed(0)
    cfg = dict(
        type='DissimilaritySegmentor',
        backbone=dict(type='TestPyramid'),
        decode_head=dict(TINY_HEAD),
        test_cfg=dict(mode='whole'))
    cfg.update(kwargs)
    return MODELS.build(ConfigDict(cfg))


def random_inputs(batch=2, height=32, width=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, 6, height, width, generator=generator)
    semantic = torch.randint(0, 20, (batch, 1, height, width), generator=generator)
    semantic[semantic == 19] = 255
    return torch.cat([images, semantic.float(), torch.rand(batch, 3, height, width, generator=generator)], dim=1)


def samples(batch=2, height=32, width=48, domains=(0, 1), ori=None):
    out = []
    for i in range(batch):
        generator = torch.Generator().manual_seed(i)
        label = torch.randint(0, 2, (1, height, width), generator=generator)
        label[:, :4] = 255
        sample = SegDataSample(
            metainfo=dict(domain=domains[i % 2], ori_shape=ori or (height, width), img_shape=(height, width)))
        sample.gt_sem_seg = PixelData(data=label)
        out.append(sample)
    return out


def test_vgg16_network_has_the_published_number_of_parameters():
    model = build(
        backbone=dict(type='VGGPyramid'),
        decode_head=dict(type='DissimilarityDecodeHead', in_channels=(64, 128, 256, 512)))
    assert sum(p.numel() for p in model.parameters()) == 18_780_162


def test_vgg_pyramid_matches_torchvision_layers():
    from torchvision.models import vgg16
    torch.manual_seed(0)
    reference = vgg16(weights=None).features.eval()
    vgg = MODELS.build(dict(type='VGGPyramid')).eval()
    convs = [m for m in reference if isinstance(m, torch.nn.Conv2d)]
    mine = [m for m in vgg.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(mine) == 10
    for source, target in zip(convs, mine):
        target.load_state_dict(source.state_dict())
    x = torch.randn(1, 3, 32, 48)
    outs = vgg(x)
    for out, end in zip(outs, (4, 9, 16, 23)):  # relu 1_2, 2_2, 3_3, 4_3
        torch.testing.assert_close(out, reference[:end](x))


def test_vgg19_first_features_match_torchvision_layers():
    from torchvision.models import vgg19
    torch.manual_seed(0)
    reference = vgg19(weights=None).features.eval()
    vgg = MODELS.build(dict(type='VGGPyramid', depth=19, num_stages=5, position='first')).eval()
    convs = [m for m in reference if isinstance(m, torch.nn.Conv2d)]
    for source, target in zip(convs, [m for m in vgg.modules() if isinstance(m, torch.nn.Conv2d)]):
        target.load_state_dict(source.state_dict())
    x = torch.randn(1, 3, 32, 32)
    for out, end in zip(vgg(x), (2, 7, 12, 21, 30)):  # relu 1_1 ... 5_1
        torch.testing.assert_close(out, reference[:end](x))


def reference_forward(head, features):
    """The head's equations, written out with functions alone."""
    params = dict(head.named_parameters())

    def conv(name, x, **kwargs):
        return F.conv2d(x, params[f'{name}.weight'], params[f'{name}.bias'], **kwargs)

    def pyramid(name, x):
        outs = [conv(f'{name}.levels.0.0', x, padding=3).relu()]
        for level in range(1, 4):
            outs.append(conv(f'{name}.levels.{level}.0', outs[-1], stride=2, padding=1).relu())
        return outs

    def spade(name, x, label):
        label = F.interpolate(label, size=x.shape[-2:], mode='nearest')
        hidden = conv(f'{name}.mlp_shared.0', label, padding=1).relu()
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(var + 1e-5) * (1 + conv(f'{name}.mlp_gamma', hidden, padding=1)) + conv(
            f'{name}.mlp_beta', hidden, padding=1)

    semantic, uncertainty = pyramid('semantic_encoder', features.semantic), pyramid('uncertainty_encoder',
                                                                                    features.uncertainty)
    x = None
    for i in (3, 2, 1, 0):
        image, synthesis = features.image[i], features.synthesis[i]
        fused = conv(f'fusion.{i}', torch.cat([image, synthesis, semantic[i]], 1)) * uncertainty[i]
        level = torch.cat([(image * synthesis).sum(1, keepdim=True), fused], 1)
        x = level if x is None else torch.cat([x, level], 1)
        x = F.selu(conv(f'decoder.{i}.conv', x, padding=1))
        x = F.selu(spade(f'decoder.{i}.refine.norm1', x, features.semantic))
        x = F.selu(
            spade(f'decoder.{i}.refine.norm2', conv(f'decoder.{i}.refine.conv', x, padding=1), features.semantic))
        if i:
            x = F.conv_transpose2d(x, params[f'decoder.{i}.up.weight'], params[f'decoder.{i}.up.bias'], stride=2)
    return conv('conv_seg', x)


def test_head_follows_its_equations():
    model = build().eval().double()
    inputs = random_inputs().double()
    features = model.extract_feat(inputs)
    torch.testing.assert_close(
        model.decode_head(features), reference_forward(model.decode_head, features), rtol=1e-9, atol=1e-9)


def test_image_and_synthesis_pass_the_backbone_in_one_batch():
    model = build()
    inputs = random_inputs(batch=3)
    features = model.extract_feat(inputs)
    assert model.backbone.seen == [6]
    torch.testing.assert_close(features.image[0], model.backbone(inputs[:, :3])[0])
    torch.testing.assert_close(features.synthesis[0], model.backbone(inputs[:, 3:6])[0])


@pytest.mark.parametrize('option', ['correlation', 'uncertainty', 'spade'])
def test_parts_of_the_head_are_options(option):
    full, without = build(), build(decode_head=dict(TINY_HEAD, **{option: False}))
    count = {m: sum(p.numel() for p in m.parameters()) for m in (full, without)}
    assert count[without] < count[full]
    losses = without.loss(random_inputs(), samples())
    losses['loss_ce' if 'loss_ce' in losses else 'decode.loss_ce'].backward()
    assert all(p.grad is not None for p in without.parameters())


DISCREPANCY = dict(uncertainty=False, spade=False, semantic_padding='reflect')


def vgg_discrepancy_network():
    return build(
        backbone=dict(type='VGGPyramid', frozen_stages=4),
        decode_head=dict(type='DissimilarityDecodeHead', in_channels=(64, 128, 256, 512), **DISCREPANCY))


def test_discrepancy_network_has_the_parameters_of_lis_et_al():
    """Counted from the layers of the public network: frozen VGG16, encoder of the labels, fusion and decoder."""

    def conv(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + outputs

    expected = conv(19, 32, 7) + conv(32, 64, 3) + conv(64, 128, 3) + conv(128, 256, 3)
    deeper = 0
    for features, labels, width in ((512, 256, 256), (256, 128, 256), (128, 64, 128), (64, 32, 64)):
        expected += conv(2 * features + labels, features, 1)
        expected += conv(features + 1 + deeper, width, 3) + conv(width, width, 3)
        expected += conv(width, width, 2) if features > 64 else 0
        deeper = width
    expected += conv(64, 2, 1)
    model = vgg_discrepancy_network()
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected == 6_163_266
    assert sum(p.numel() for p in model.parameters()) == 13_798_530


def test_discrepancy_network_follows_its_equations():
    model = build(decode_head=dict(TINY_HEAD, **DISCREPANCY)).eval().double()
    head, features = model.decode_head, model.extract_feat(random_inputs().double())
    params = dict(head.named_parameters())

    def conv(name, x, **kwargs):
        return F.conv2d(x, params[f'{name}.weight'], params[f'{name}.bias'], **kwargs)

    labels = [conv('semantic_encoder.levels.0.0', F.pad(features.semantic, (3, 3, 3, 3), mode='reflect')).relu()]
    for level in range(1, 4):
        labels.append(conv(f'semantic_encoder.levels.{level}.0', labels[-1], stride=2, padding=1).relu())
    x = None
    for i in (3, 2, 1, 0):
        image, synthesis = features.image[i], features.synthesis[i]
        fused = conv(f'fusion.{i}', torch.cat([image, synthesis, labels[i]], 1))
        level = [(image * synthesis).sum(1, keepdim=True), fused]
        x = torch.cat(level if x is None else [x, *level], 1)
        x = F.selu(conv(f'decoder.{i}.refine', F.selu(conv(f'decoder.{i}.conv', x, padding=1)), padding=1))
        if i:
            x = F.conv_transpose2d(x, params[f'decoder.{i}.up.weight'], params[f'decoder.{i}.up.bias'], stride=2)
    torch.testing.assert_close(head(features), conv('conv_seg', x), rtol=1e-9, atol=1e-9)


def test_frozen_features_stay_as_they_are_and_all_else_is_trained():
    model = vgg_discrepancy_network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    sum(model.loss(random_inputs(1, 16, 32), samples(1, 16, 32)).values()).backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert not any(name.startswith('backbone.') for name, _ in trained)
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in trained)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    optimizer.step()
    changed = {name.split('.')[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {'decode_head'}


def test_without_uncertainty_its_maps_are_not_looked_at():
    model = build(decode_head=dict(TINY_HEAD, **DISCREPANCY)).eval()
    inputs = random_inputs()
    inputs[:, 7:] = float('nan')
    with torch.no_grad():
        logits = model(random_inputs(), mode='tensor')
        assert torch.equal(model(inputs, mode='tensor'), logits) and logits.isfinite().all()


@pytest.mark.parametrize('size', [(32, 48), (33, 47), (40, 36)])
def test_any_size_is_predicted_at_the_original_size(size):
    model = build().eval()
    with torch.no_grad():
        results = model.predict(random_inputs(2, *size), samples(2, *size, ori=(50, 70)))
    for result in results:
        assert result.anomaly_scores.data.shape == (1, 50, 70)
        assert result.anomaly_scores.data.dtype == torch.float32
        logits = result.seg_logits.data
        torch.testing.assert_close(result.anomaly_scores.data[0], logits[1] - logits[0])


def test_semantic_255_has_no_class():
    inputs = random_inputs()
    one_hot = split_channels(inputs, 19)[2]
    semantic = inputs[:, 6].numpy()
    expected = np.stack([semantic == k for k in range(19)], axis=1).astype(np.float32)
    np.testing.assert_array_equal(one_hot.numpy(), expected)
    assert one_hot.sum(1)[torch.from_numpy(semantic == 255)].eq(0).all() and (semantic == 255).any()


def test_taps_carry_the_graph_while_the_losses_are_made():
    model, kept = build(), []

    def alignment(taps, domains):
        assert {
            k: tuple(v.shape)
            for k, v in taps.items()
        } == dict(
            features=(2, 10, 4, 6), anomaly_logit=(2, 1, 32, 48), embedding=(2, 4, 32, 48))
        assert all(v.requires_grad for v in taps.values())
        kept.append(weakref.ref(taps['embedding']))
        return {}

    model.set_alignment(alignment)
    losses = model.loss(random_inputs(), samples())
    sum(losses.values()).backward()
    del losses
    assert kept[0]() is None
    with pytest.raises(RuntimeError, match='taps'):
        model.taps()


@pytest.mark.parametrize('train_only', [False, True])
def test_model_can_be_copied_after_a_step(train_only):
    model = build(**(dict(train_only=TRAIN_ONLY) if train_only else {}))
    sum(model.loss(random_inputs(), samples()).values()).backward()
    twin = copy.deepcopy(model)
    assert all(map(torch.equal, twin.state_dict().values(), model.state_dict().values()))
    wrong = samples()
    wrong[0].gt_sem_seg = PixelData(data=wrong[0].gt_sem_seg.data[:, :5])
    with pytest.raises(RuntimeError, match='equal size'):
        model.loss(random_inputs(), wrong)
    copy.deepcopy(model)


def test_alignment_reads_the_target_if_it_asks_for_it():
    model, seen = build(), []
    batch = samples()
    model.set_alignment(lambda taps, domains, target: seen.append(target) or {}, reads_target=True)
    model.loss(random_inputs(), batch)
    assert torch.equal(seen[0], torch.cat([sample.gt_sem_seg.data for sample in batch]))


def test_alignment_adds_its_losses_and_sees_the_domains():
    model = build()
    seen = []

    def alignment(taps, domains):
        seen.append(domains)
        return dict(loss_extra=taps['features'].mean())

    model.set_alignment(alignment)
    assert 'loss_extra' in model.loss(random_inputs(), samples())
    assert seen == [[0, 1]]
    model.set_alignment(None)
    assert 'loss_extra' not in model.loss(random_inputs(), samples())


def test_alignment_without_domains_is_refused():
    model = build()
    model.set_alignment(lambda taps, domains: {})
    unlabelled = samples()
    for sample in unlabelled:
        del sample.domain
    with pytest.raises(ValueError, match='domain'):
        model.loss(random_inputs(), unlabelled)


TRAIN_ONLY = dict(projector=dict(type='Projector', in_channels=4), contrast=dict(type='CACLLoss'))


def test_deployed_model_is_the_baseline():
    trained, baseline = build(train_only=TRAIN_ONLY), build()
    losses = trained.loss(random_inputs(), samples())
    sum(losses.values()).backward()
    assert 'loss_cacl' in losses
    assert all(p.grad is not None for p in trained.parameters())
    baseline.load_state_dict(trained.state_dict())  # keys of train_only are forgiven
    trained.switch_to_deploy()
    assert set(trained.state_dict()) == set(baseline.state_dict())
    assert [n for n, _ in trained.named_modules()] == [n for n, _ in baseline.named_modules()]
    trained.eval(), baseline.eval()
    with torch.no_grad():
        a, b = trained.predict(random_inputs(), samples()), baseline.predict(random_inputs(), samples())
    for x, y in zip(a, b):
        assert torch.equal(x.anomaly_scores.data, y.anomaly_scores.data)


def test_deployed_model_runs_not_one_operation_more():
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode
    trained, baseline = build(train_only=TRAIN_ONLY).eval(), build().eval()
    trained.switch_to_deploy()
    inputs, counts = random_inputs(), []
    for model in (trained, baseline):
        with torch.no_grad(), FlopCounterMode(display=False) as flops, profile(
                activities=[ProfilerActivity.CPU]) as profiler:
            model.predict(inputs, samples())
        operations = sorted((event.key, event.count) for event in profiler.key_averages())
        counts.append((flops.get_total_flops(), operations))
    assert counts[0] == counts[1] and counts[0][0] > 0


@pytest.mark.parametrize('kwargs, match', [
    (dict(feature_strides=(1, 2, 4)), 'feature_strides'),
    (dict(feature_strides=(1, 2, 4, 4)), 'double'),
    (dict(num_classes=19), 'num_classes'),
    (dict(semantic_padding='same'), 'semantic_padding'),
])
def test_wrong_head_settings_are_refused(kwargs, match):
    with pytest.raises(ValueError, match=match):
        build(decode_head=dict(TINY_HEAD, **kwargs))


def test_wrong_segmentor_settings_are_refused():
    with pytest.raises(ValueError, match='train_only'):
        build(train_only=dict(projector=TRAIN_ONLY['projector']))
    with pytest.raises(TypeError, match='DissimilarityDataPreProcessor'):
        build(data_preprocessor=dict(type='SegDataPreProcessor'))
    with pytest.raises(ValueError, match='frozen networks'):
        build().predict(torch.rand(1, 3, 32, 32), samples(1))


def test_data_preprocessor_normalises_each_channel():
    preprocessor = MODELS.build(dict(type='DissimilarityDataPreProcessor'))
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, (2, 10, 8, 6), dtype=np.uint8)
    out = preprocessor(dict(inputs=[torch.from_numpy(p) for p in packed]))['inputs'].numpy()
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    for n in range(2):
        for c in range(3):
            np.testing.assert_allclose(out[n, c], (packed[n, 2 - c] - mean[c]) / std[c], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(out[n, 3 + c], (packed[n, 5 - c] - mean[c]) / std[c], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(out[n, 7 + c], packed[n, 7 + c] / 255, rtol=1e-6)
        np.testing.assert_array_equal(out[n, 6], packed[n, 6])
    restored = preprocessor.denormalise(torch.from_numpy(out[:, :3]))
    np.testing.assert_allclose(restored.numpy(), packed[:, :3], atol=1e-3)


def test_data_preprocessor_refuses_mixed_sizes_and_odd_channels():
    preprocessor = MODELS.build(dict(type='DissimilarityDataPreProcessor'))
    with pytest.raises(ValueError, match='one size'):
        preprocessor(dict(inputs=[torch.zeros(10, 8, 8), torch.zeros(10, 8, 6)]))
    with pytest.raises(ValueError, match='channels'):
        preprocessor(dict(inputs=[torch.zeros(4, 8, 8)]))


@pytest.mark.parametrize('class_weight', [None, (1.548, 8.039)])
def test_cross_entropy_equals_torch(class_weight):
    torch.manual_seed(0)
    loss = MODELS.build(dict(type='PixelCrossEntropyLoss', class_weight=class_weight))
    logits, label = torch.randn(2, 2, 6, 5), torch.randint(0, 2, (2, 6, 5))
    label[0, :3] = 255
    expected = F.cross_entropy(
        logits, label, weight=None if class_weight is None else torch.tensor(class_weight), ignore_index=255)
    torch.testing.assert_close(loss(logits, label), expected)
    logits.requires_grad_()
    empty = loss(logits, torch.full_like(label, 255))
    empty.backward()
    assert empty.item() == 0 and logits.grad.abs().sum() == 0


@pytest.mark.parametrize('spade', [True, False])
@pytest.mark.parametrize('scale', [1., 4000.])
def test_half_precision_stays_finite_whatever_the_correlation(spade, scale):
    torch.manual_seed(0)
    head = build(decode_head=dict(TINY_HEAD, spade=spade)).decode_head.eval()
    for stage in head.decoder:  # as large as trained weights may be
        stage.conv.weight.data.mul_(4)
    levels = [
        scale * torch.rand(2, channels, 32 // stride, 48 // stride)
        for channels, stride in zip(TINY_HEAD['in_channels'], (1, 2, 4, 8))
    ]
    semantic = F.one_hot(torch.randint(0, 19, (2, 32, 48)), 19).permute(0, 3, 1, 2).float()
    uncertainty = torch.rand(2, 3, 32, 48)

    def run(dtype):
        pyramid = [level.to(dtype) for level in levels]
        return head(dissimilarity_head.DissimilarityFeatures(pyramid, pyramid, semantic.to(maps), uncertainty.to(maps)))

    maps = torch.float32
    with torch.no_grad():
        expected = run(torch.float32)
        with torch.autocast('cpu', dtype=torch.float16):
            logits = run(torch.float16)
        assert logits.isfinite().all()
        torch.testing.assert_close(logits.float(), expected, rtol=.05, atol=.05 * expected.abs().max().item())
        if spade:
            maps = torch.float16
            head.half()
            assert run(torch.float16).isfinite().all()


def test_no_sampler_of_pixels():
    with pytest.raises(ValueError, match='decode_head.sampler'):
        build(decode_head=dict(TINY_HEAD, sampler=dict(type='OHEMPixelSampler')))


def test_labels_follow_to_the_size_of_maps_that_are_made_online(monkeypatch):
    model = build(work_size=(32, 48))
    seen = []
    monkeypatch.setattr(model, 'add_maps', lambda inputs: (seen.append(inputs.shape), random_inputs())[1])
    batch = samples(height=64, width=96)
    expected = torch.stack([sample.gt_sem_seg.data[0, 1::2, 1::2] for sample in batch])
    losses = model.loss(torch.rand(2, 3, 64, 96), batch)
    assert seen == [(2, 3, 64, 96)] and losses['decode.loss_ce'].isfinite()
    assert torch.equal(torch.stack([sample.gt_sem_seg.data[0] for sample in batch]), expected)


@pytest.mark.parametrize('threshold, classes', [(0.5, [1, 1, 0, 0]), (0.3, [1, 1, 0, 1])])
def test_one_channel_head_ranks_by_its_logit(threshold, classes):
    model = MODELS.build(
        dict(
            type='AnomalySegmentor',
            backbone=dict(type='TestPyramid'),
            decode_head=dict(
                type='FCNHead',
                in_channels=32,
                in_index=3,
                channels=4,
                num_convs=1,
                num_classes=2,
                out_channels=1,
                threshold=threshold,
                norm_cfg=None),
            test_cfg=dict(mode='whole'))).eval()
    logits = torch.tensor([[[[60., 50.], [-50., 0.]]]])
    sample = SegDataSample(metainfo=dict(ori_shape=(2, 2), img_shape=(2, 2)))
    result = model.postprocess_result(logits, [sample])[0]
    torch.testing.assert_close(result.anomaly_scores.data, logits[0])
    assert result.pred_sem_seg.data.flatten().tolist() == classes


CLASS_HEAD = dict(
    type='AnomalySegmentor',
    backbone=dict(type='TestPyramid'),
    decode_head=dict(type='FCNHead', in_channels=32, in_index=3, channels=4, num_convs=1, num_classes=5),
    test_cfg=dict(mode='whole'))


def test_class_heads_need_a_score():
    with pytest.raises(ValueError, match='score'):
        MODELS.build(dict(CLASS_HEAD))
    model = MODELS.build(ConfigDict(CLASS_HEAD, score='energy')).eval()
    with torch.no_grad():
        result = model.predict(torch.rand(1, 3, 32, 32), samples(1, 32, 32, ori=(40, 44)))[0]
    logits = result.seg_logits.data.double()
    torch.testing.assert_close(result.anomaly_scores.data[0], -logits.logsumexp(0).float())
    assert result.pred_sem_seg.data.max() < 5


def test_several_scores_cost_one_pass():
    cold = dict(type='energy', temperature=0.5, name='cold')
    model = MODELS.build(ConfigDict(CLASS_HEAD, scores=['msp', cold])).eval()
    passes = []
    model.backbone.register_forward_hook(lambda *args: passes.append(1))
    with torch.no_grad():
        result = model.predict(torch.rand(1, 3, 32, 32), samples(1, 32, 32, ori=(40, 44)))[0]
    assert len(passes) == 1 and result.score_names == ('msp', 'cold')
    logits = result.seg_logits.data
    assert result.anomaly_scores.shape == (40, 44)
    expected = [build_score(score)(dict(seg_logits=logits[None]))[0] for score in ('msp', cold)]
    torch.testing.assert_close(result.anomaly_scores.data, torch.stack(expected))
    with pytest.raises(ValueError, match='either score or scores'):
        MODELS.build(ConfigDict(CLASS_HEAD, score='msp', scores=['energy']))
    with pytest.raises(ValueError, match='two scores are called'):
        MODELS.build(ConfigDict(CLASS_HEAD, scores=['energy', 'energy']))
