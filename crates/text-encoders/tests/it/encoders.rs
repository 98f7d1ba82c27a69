//! What every encoder promises: padding has no influence, limits are errors, dropout acts in training only.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use text_encoders::beit3::{Beit3, Beit3Config};
use text_encoders::bert::{Bert, BertConfig};
use text_encoders::clip::{ClipText, ClipTextConfig, ClipVisionConfig};
use text_encoders::tokenizer::WordPiece;
use text_encoders::vilt::{Vilt, ViltConfig};
use text_encoders::{Padding, TextEncoder, TextError, TextTokenizer};

use crate::{batch, difference, input};

/// Sums of a few hundred products in another order, two layers deep, with values up to about 4.
const CLOSE: f32 = 1e-5;

const VOCAB: usize = 40;
const LONG: &[u32] = &[30, 5, 17, 3, 9, 39];
const SHORT: &[u32] = &[30, 8, 39];

fn fill<M: Module>(model: M) -> M {
    nn_ops::weights::load_formula(model, "test", &Default::default()).0
}

fn bert(device: &Device) -> Bert {
    fill(BertConfig::tiny(VOCAB).init(device))
}

fn clip(device: &Device) -> ClipText {
    fill(ClipTextConfig::tiny(VOCAB).init(device))
}

fn beit3(device: &Device) -> Beit3 {
    fill(Beit3Config::tiny(VOCAB).init(device))
}

fn tiny_vilt() -> ViltConfig {
    ViltConfig {
        vocab_size: VOCAB,
        hidden: 64,
        layers: 2,
        heads: 4,
        ffn: 128,
        image_size: 64,
        patch_size: 16,
        ..ViltConfig::b32()
    }
}

fn vilt(device: &Device) -> Vilt {
    fill(tiny_vilt().init(device))
}

fn all(device: &Device) -> Vec<(&'static str, Box<dyn TextEncoder>)> {
    let projected = ClipTextConfig { project_tokens: true, ..ClipTextConfig::tiny(VOCAB) };
    vec![
        ("bert", Box::new(bert(device))),
        ("clip", Box::new(clip(device))),
        ("clip, projected", Box::new(fill(projected.init(device)))),
        ("beit3", Box::new(beit3(device))),
        ("vilt", Box::new(vilt(device))),
    ]
}

#[test]
fn padding_has_no_influence() {
    let device = Device::flex();
    for (name, encoder) in all(&device) {
        let alone = encoder.encode(&batch(&[SHORT], 3, 0)).unwrap();
        for (width, pad) in [(6, 0), (11, 1), (20, 7)] {
            let padded = encoder.encode(&batch(&[LONG, SHORT], width, pad)).unwrap();
            let tokens = padded.tokens.clone().slice([1..2, 0..3]);
            assert!(difference(tokens, alone.tokens.clone()) < CLOSE, "{name}, {width} places");
            assert!(difference(padded.pooled.narrow(0, 1, 1), alone.pooled.clone()) < CLOSE, "{name}, {width} places");
            let mask: Vec<bool> = padded.mask.narrow(0, 1, 1).into_data().iter::<bool>().collect();
            assert!(mask.iter().enumerate().all(|(place, real)| *real == (place < 3)), "{name}: {mask:?}");
        }
    }
}

#[test]
fn padding_has_no_influence_on_joint_passes() {
    let device = Device::flex();
    let image = input("image", [1, 3, 32, 32], &device);
    let model = beit3(&device);
    let alone = model.joint(image.clone(), &batch(&[SHORT], 3, 1), &[0]).unwrap();
    let padded = model.joint(image, &batch(&[LONG, SHORT], 12, 1), &[0, 0]).unwrap();
    let vision = padded.vision.clone().unwrap().narrow(0, 1, 1);
    assert!(difference(vision, alone.vision.unwrap()) < CLOSE);
    assert!(difference(padded.text.unwrap().slice([1..2, 0..3]), alone.text.unwrap()) < CLOSE);
    let model = vilt(&device);
    let image = input("image", [1, 3, 48, 64], &device);
    let alone = model.joint(image.clone(), &batch(&[SHORT], 3, 0)).unwrap();
    let padded = model.joint(image, &batch(&[SHORT], 9, 5)).unwrap();
    assert!(difference(padded.cls(), alone.cls()) < CLOSE);
    assert!(difference(padded.image, alone.image) < CLOSE);
}

#[test]
fn widths_are_as_announced() {
    let device = Device::flex();
    for (name, encoder) in all(&device) {
        let features = encoder.encode(&batch(&[LONG, SHORT], 6, 0)).unwrap();
        assert_eq!(features.tokens.dims(), [2, 6, encoder.width()], "{name}");
        assert_eq!(features.pooled.dims(), [2, encoder.pooled_width()], "{name}");
        assert_eq!(encoder.vocab_size(), VOCAB, "{name}");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let device = Device::flex();
    let tokenizer = WordPiece::train(["the zebra on the left of a tree", "a quick brown fox"], 60).unwrap();
    assert!(tokenizer.vocab_size() > VOCAB);
    for (name, encoder) in all(&device) {
        let unknown = encoder.encode(&batch(&[&[1, 40]], 2, 0)).unwrap_err();
        assert!(matches!(unknown, TextError::IdOutOfRange { id: 40, place: 1, rows: VOCAB, .. }), "{name}: {unknown}");
        let limit = encoder.max_len();
        let long = vec![2; limit + 1];
        let error = encoder.encode(&batch(&[&long], limit + 1, 0)).unwrap_err();
        assert!(matches!(error, TextError::TooLong { limit: l, .. } if l == limit), "{name}: {error}");
        assert!(encoder.encode(&batch(&[&long[1..]], limit, 0)).is_ok(), "{name}");
        let error = encoder.check_tokenizer(&tokenizer).unwrap_err();
        assert!(matches!(error, TextError::Mismatch { table: VOCAB, .. }), "{name}: {error}");
    }
    let model = beit3(&device);
    let texts = batch(&[SHORT], 3, 1);
    assert!(matches!(model.vision_only(input("i", [1, 3, 32, 16], &device)), Err(TextError::Shape { .. })));
    assert!(matches!(model.joint(input("i", [1, 3, 32, 32], &device), &texts, &[1]), Err(TextError::Shape { .. })));
    assert!(matches!(vilt(&device).joint(input("i", [2, 3, 32, 32], &device), &texts), Err(TextError::Shape { .. })));
    assert!(matches!(vilt(&device).image_only(input("i", [1, 3, 8, 32], &device)), Err(TextError::Shape { .. })));
    assert!(ClipVisionConfig::tiny().init(&device).tokens(input("i", [1, 1, 32, 32], &device)).is_err());
    assert!(matches!(bert(&device).layer_outputs(&texts, 3), Err(TextError::Config(error)) if error.key == "layer"));
}

#[test]
fn configurations_are_checked() {
    let wrong = [
        BertConfig { heads: 5, ..BertConfig::tiny(9) }.validate(),
        BertConfig { layers: 0, ..BertConfig::tiny(9) }.validate(),
        BertConfig { dropout: 1.0, ..BertConfig::tiny(9) }.validate(),
        BertConfig { output_layer: Some(3), ..BertConfig::tiny(9) }.validate(),
        ClipTextConfig { heads: 0, ..ClipTextConfig::tiny(9) }.validate(),
        ClipVisionConfig { image_size: 33, ..ClipVisionConfig::tiny() }.validate(),
        Beit3Config { fused_layers: Some(vec![1, 3]), ..Beit3Config::tiny(9) }.validate(),
        Beit3Config { max_positions: 2, ..Beit3Config::tiny(9) }.validate(),
        ViltConfig { patch_size: 30, ..tiny_vilt() }.validate(),
    ];
    let keys =
        ["heads", "layers", "dropout", "output_layer", "heads", "image_size", "fused_layers", "max_positions", "image_size"];
    for (result, key) in wrong.into_iter().zip(keys) {
        assert_eq!(result.unwrap_err().key, key);
    }
    for right in [BertConfig::base().validate(), ClipTextConfig::openclip_h14().validate(), Beit3Config::large().validate()] {
        right.unwrap();
    }
    for config in [ClipVisionConfig::openai_l14(), ClipVisionConfig::openclip_h14()] {
        config.validate().unwrap();
    }
    let text = r#"{"vocab_size": 9, "hiden": 64}"#;
    assert!(serde_json::from_str::<BertConfig>(text).unwrap_err().to_string().contains("hiden"));
}

#[test]
fn bert_returns_the_layer_asked_for() {
    let device = Device::flex();
    let texts = batch(&[LONG, SHORT], 6, 0);
    let layers = bert(&device).layer_outputs(&texts, 2).unwrap();
    for layer in [1, 2] {
        let config = BertConfig { output_layer: Some(layer), ..BertConfig::tiny(VOCAB) };
        let tokens = fill(config.init(&device)).encode(&texts).unwrap().tokens;
        assert!(difference(tokens, layers[layer - 1].clone()) == 0.0);
    }
    assert!(difference(layers[0].clone(), layers[1].clone()) > 0.1);
}

#[test]
fn dropout_acts_in_training_only() {
    let texts = batch(&[LONG, SHORT], 6, 0);
    let run = |model: &Bert| model.encode(&texts).unwrap().tokens.inner_if_tracked();
    let plain = run(&bert(&Device::flex()));
    let training = bert(&Device::flex().autodiff());
    assert!(difference(run(&training), run(&training)) > 0.01);
    let still = training.clone().no_grad();
    assert!(difference(run(&still), run(&still)) > 0.01, "frozen weights keep dropout");
    assert!(difference(run(&training.valid()), plain.clone()) < CLOSE);
    assert!(difference(run(&training.freeze()), plain.clone()) < CLOSE, "frozen parts do without");
    // Without dropout, the path that training takes equals the fused one, padding included.
    let config = BertConfig { dropout: 1e-12, ..BertConfig::tiny(VOCAB) };
    assert!(difference(run(&fill(config.init(&Device::flex().autodiff()))), plain) < CLOSE);
}

/// Brings a tensor of a training device to the plain one.
trait Inner {
    fn inner_if_tracked(self) -> Self;
}

impl Inner for Tensor<3> {
    fn inner_if_tracked(self) -> Self {
        if self.device().is_autodiff() { self.inner() } else { self }
    }
}

/// Names of parameters without a gradient.
struct Ungraded<'a> {
    grads: &'a burn::tensor::Gradients,
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Ungraded<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().grad(self.grads).is_none() {
            self.found.push(self.path.join("."));
        }
    }
}

fn ungraded<M: Module>(model: &M, loss: Tensor<1>) -> Vec<String> {
    let grads = loss.backward();
    let mut visitor = Ungraded { grads: &grads, path: Vec::new(), found: Vec::new() };
    model.visit(&mut visitor);
    visitor.found
}

#[test]
fn gradients_reach_every_parameter() {
    let device = Device::flex().autodiff();
    let texts = batch(&[LONG, SHORT], 6, 1);
    let model = bert(&device);
    let loss = model.pool(model.encode(&texts).unwrap().tokens).sum();
    assert_eq!(ungraded(&model, loss), [""; 0]);
    let model = clip(&device);
    let loss = model.encode(&texts).unwrap().pooled.sum();
    assert_eq!(ungraded(&model, loss), [""; 0]);
    let model = beit3(&device);
    let image = input("image", [2, 3, 32, 32], &device);
    let loss = model.joint(image.clone(), &texts, &[0, 1]).unwrap().sequence().unwrap().powi_scalar(2).sum();
    assert_eq!(ungraded(&model, loss), ["vision_embed.mask_token"]);
    let model = vilt(&device);
    let features = model.joint(image, &texts).unwrap();
    let loss = model.pool(features.text.clone()).sum() + features.image.sum();
    assert_eq!(ungraded(&model, loss), [""; 0]);
}

#[test]
fn fusion_of_chosen_layers() {
    let device = Device::flex();
    let image = input("image", [2, 3, 32, 32], &device);
    let texts = batch(&[LONG, SHORT], 6, 1);
    let model = |fused| fill(Beit3Config { fused_layers: fused, ..Beit3Config::tiny(VOCAB) }.init(&device));
    let joint = |fused| model(fused).joint(image.clone(), &texts, &[0, 1]).unwrap();
    let all = joint(None);
    assert!(difference(joint(Some(vec![1, 2])).sequence().unwrap(), all.sequence().unwrap()) == 0.0);
    let first = joint(Some(vec![1]));
    assert!(difference(first.sequence().unwrap(), all.sequence().unwrap()) > 1e-3);
    // Without fusion a joint pass is two separate ones.
    let none = joint(Some(vec![]));
    let apart = model(None);
    assert!(difference(none.vision.unwrap(), apart.vision_only(image.clone()).unwrap().vision.unwrap()) < CLOSE);
    assert!(difference(none.text.unwrap(), apart.text_only(&texts).unwrap().text.unwrap()) < CLOSE);
}

#[test]
fn expressions_share_an_image() {
    let device = Device::flex();
    let image = input("image", [2, 3, 32, 32], &device);
    let model = beit3(&device);
    let texts = batch(&[LONG, SHORT, SHORT], 6, 1);
    let shared = model.joint(image.clone(), &texts, &[1, 0, 1]).unwrap().image_cls().unwrap();
    for (row, (ids, of)) in [(LONG, 1), (SHORT, 0), (SHORT, 1)].into_iter().enumerate() {
        let one = image.clone().narrow(0, of, 1);
        let alone = model.joint(one, &batch(&[ids], ids.len(), 1), &[0]).unwrap().image_cls().unwrap();
        let worst = difference(shared.clone().narrow(0, row, 1), alone);
        assert!(worst < CLOSE, "{row}: {worst}");
    }
}

#[test]
fn tables_on_the_host_change_nothing() {
    let device = Device::flex();
    let texts = batch(&[LONG, SHORT], 6, 1);
    let same = |a: &dyn TextEncoder, b: &dyn TextEncoder| {
        let [a, b] = [a, b].map(|encoder| encoder.encode(&texts).unwrap());
        assert!(difference(a.tokens, b.tokens) == 0.0);
        assert!(difference(a.pooled, b.pooled) == 0.0);
    };
    let bytes = Some((VOCAB * 64 * 4 - 1) as u64);
    same(&bert(&device), &bert(&device).with_host_table_above(bytes));
    same(&clip(&device), &clip(&device).with_host_table_above(bytes));
    same(&beit3(&device), &beit3(&device).with_host_table_above(bytes));
    assert_eq!(beit3(&device).with_host_table_above(bytes).num_params() + VOCAB * 64, beit3(&device).num_params());
}

#[test]
fn a_sentence_becomes_features() {
    let device = Device::flex();
    let tokenizer = WordPiece::train(["the zebra on the left", "the zebra on the right"], 64).unwrap();
    let encoder = BertConfig { output_layer: Some(1), ..BertConfig::tiny(tokenizer.vocab_size()) }.init(&device);
    encoder.check_tokenizer(&tokenizer).unwrap();
    let texts = tokenizer.encode_batch(&["the zebra on the left", "right"], 20, Padding::Max).unwrap();
    let features = encoder.encode(&texts).unwrap();
    assert_eq!(features.tokens.dims(), [2, 20, 64]);
}

#[test]
fn images_for_beit3_keep_their_range() {
    let device = Device::flex();
    let model = beit3(&device);
    let grey = input("grey", [1, 3, 20, 47], &device) * 0.0 + 0.75;
    let ready = model.preprocess(grey);
    assert_eq!(ready.dims(), [1, 3, 32, 32]);
    assert!((ready - 0.5).abs().max().into_scalar::<f32>() < 1e-6);
}

/// Without text projection the vector of a text is the end-of-text feature itself, and a published file's projection is left alone.
#[test]
fn a_clip_tower_may_end_without_projection() {
    let device = Device::flex();
    let plain = ClipTextConfig { project_pooled: false, ..ClipTextConfig::tiny(VOCAB) };
    let projected = fill(ClipTextConfig::tiny(VOCAB).init(&device));
    let file = nn_ops::weights::export(&projected, &ClipText::names(), "published");
    let (tower, report) = plain.load(file, &device).unwrap();
    assert_eq!(report.unused, ["text_projection.weight"]);
    let texts = batch(&[LONG, SHORT], 6, 0);
    let (features, want) = (tower.encode(&texts).unwrap(), projected.encode(&texts).unwrap());
    assert_eq!((tower.width(), tower.pooled_width(), plain.pooled_width()), (64, 64, 64));
    assert!(difference(features.tokens.clone(), want.tokens) == 0.0);
    // The end of a text is its largest id; the fixture's rows hold it once.
    for (row, ids) in [LONG, SHORT].into_iter().enumerate() {
        let end = (0..ids.len()).max_by_key(|place| (ids[*place], std::cmp::Reverse(*place))).unwrap();
        let token = features.tokens.clone().narrow(0, row, 1).narrow(1, end, 1).reshape([1, 64]);
        assert!(difference(features.pooled.clone().narrow(0, row, 1), token) == 0.0);
    }
    let wrong = ClipTextConfig { project_tokens: true, ..plain };
    assert_eq!(wrong.validate().unwrap_err().key, "project_tokens");
    let published = ClipVisionConfig::openclip_l14();
    assert_eq!((published.mean, published.std, published.validate()), ([0.5; 3], [0.5; 3], Ok(())));
    assert_eq!(ClipVisionConfig { std: [0.0; 3], ..published }.validate().unwrap_err().key, "std");
}
