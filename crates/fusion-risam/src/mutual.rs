//! `MutualAttention`: mutual-aware attention (RISAM sec. 3.3, eq. 3 to 5), and the two reduced forms of it in Tab. 3.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, FloatDType, Tensor};
use nn_ops::attention::attention;
use nn_ops::norm::LayerNorm;

use crate::config::RisamConfig;
use crate::enhancement::layer_norm;
use crate::options::{Interaction, LanguageSoftmax};

/// Score of a removed pair. Finite, so that no gradient is 0 times infinity; its exponential is 0 beside any other.
const REMOVED: f32 = -1e30;

/// Regions and words that know of each other.
#[derive(Debug, Clone)]
pub struct Pair {
    /// F_lav: regions with what the words say, [B, L_v, C].
    pub visual: Tensor<3>,
    /// F_val: words with what the regions show, [B, L, C].
    pub language: Tensor<3>,
    /// The word-normalised map A, [B, L_v, L], where there is one; [`RisamNet::attention`](crate::RisamNet::attention) has both
    /// directions.
    pub attention: Option<Tensor<3>>,
}

/// Who looks at whom in one block (Fig. 7), in single precision.
#[derive(Debug, Clone)]
pub struct AttentionMaps {
    /// Words per region, A, [B, L_v, L]: each row sums to 1 over the words that the region keeps; the others, and padding,
    /// have 0.
    pub words: Tensor<3>,
    /// Regions per word, [B, L, L_v]: the transpose of A, whose rows sum to anything, or with `language_softmax = "regions"`
    /// rows that sum to 1. Regions that are removed for a word have 0; so has all of a padding row.
    pub regions: Tensor<3>,
}

/// One block.
#[derive(Module, Debug)]
pub struct MutualAttention {
    /// Regions, no bias: the paper speaks of matrices.
    pub w_v: Linear,
    /// Words, no bias.
    pub w_l: Linear,
    /// Norm of the regions.
    pub norm_v: LayerNorm,
    /// Norm of the words.
    pub norm_l: LayerNorm,
    /// Regions beside what they gathered, to C; in the serial form only.
    pub merge: Option<Linear>,
    /// tau as a logit.
    tau: f64,
    masked: bool,
    #[module(skip)]
    kind: Interaction,
    #[module(skip)]
    softmax: LanguageSoftmax,
}

impl MutualAttention {
    /// Block `index`, whose words are of the text encoder's width where it is the first.
    pub(crate) fn new(config: &RisamConfig, index: usize, device: &Device) -> Self {
        let width = config.width;
        let words = if index == 0 { config.text_width() } else { width };
        let matrix = |from| LinearConfig::new(from, width).with_bias(false).init(device);
        let serial = config.interaction == Interaction::Serial;
        Self {
            w_v: matrix(width),
            w_l: matrix(words),
            norm_v: layer_norm(width, device),
            norm_l: layer_norm(width, device),
            merge: serial.then(|| LinearConfig::new(2 * width, width).init(device)),
            tau: config.tau_logit(),
            masked: config.relevance_mask,
            kind: config.interaction,
            softmax: config.language_softmax,
        }
    }

    /// F_lav and F_val of F_v (or the F_lav before) and F_l (or the F_val before).
    ///
    /// # Shapes
    /// `visual`: [B, L_v, C]; `words`: [B, L, C or text width]; `padding`: [B, L], `true` where a word is none
    pub fn forward(&self, visual: Tensor<3>, words: Tensor<3>, padding: Tensor<2, Bool>) -> Pair {
        let z_v = self.w_v.forward(visual);
        let z_l = self.w_l.forward(words);
        let (scores, removed) = self.relevance(z_v.clone(), z_l.clone(), padding);
        let kind = z_v.dtype();
        let scores = scores.mask_fill(removed, REMOVED);
        // Eq. 5 prints Z_theta for the Z_v of the sum.
        let a = softmax(scores.clone(), 2).cast(kind);
        let gathered = a.clone().matmul(z_l.clone());
        let (visual, language) = match (self.kind, &self.merge) {
            (Interaction::Serial, Some(merge)) => {
                // BRINet's order, our wiring: P looks at all regions once more (A2 = softmax over regions of P Z_v^T / sqrt C).
                let p = merge.forward(Tensor::cat(vec![z_v.clone(), gathered], 2));
                let one = |x: Tensor<3>| x.unsqueeze_dim::<4>(1);
                let looked = attention(one(p.clone()), one(z_v.clone()), one(z_v), None, None).squeeze_dim::<3>(1);
                (looked + p, z_l)
            }
            // "Equivalent to only vision-guided attention": the words are only normed.
            (Interaction::VisionGuided, _) => (gathered + z_v, z_l),
            _ => {
                let regions = self.regions(scores, &a);
                (gathered + z_v.clone(), regions.matmul(z_v) + z_l)
            }
        };
        Pair { visual: self.norm_v.forward(visual), language: self.norm_l.forward(language), attention: Some(a) }
    }

    /// What the words look at. A word that no region keeps looks at all of them where it is normalised over regions.
    ///
    /// # Shapes
    /// `scores`, `a`: [B, L_v, L]; output: [B, L, L_v]
    fn regions(&self, scores: Tensor<3>, a: &Tensor<3>) -> Tensor<3> {
        let regions = match self.softmax {
            LanguageSoftmax::Words => a.clone(),
            LanguageSoftmax::Regions => softmax(scores, 1).cast(a.dtype()),
        };
        regions.swap_dims(1, 2)
    }

    /// The two maps of [`MutualAttention::forward`] with the same input. The reduced forms have the first alone; the other
    /// is then its transpose.
    ///
    /// # Shapes
    /// As in [`MutualAttention::forward`].
    pub fn attend(&self, visual: Tensor<3>, words: Tensor<3>, padding: Tensor<2, Bool>) -> AttentionMaps {
        let (scores, removed) = self.relevance(self.w_v.forward(visual), self.w_l.forward(words), padding);
        let scores = scores.mask_fill(removed.clone(), REMOVED);
        let words = softmax(scores.clone(), 2).mask_fill(removed.clone(), 0.0);
        let regions = self.regions(scores, &words).mask_fill(removed.swap_dims(1, 2), 0.0);
        AttentionMaps { words, regions }
    }

    /// Scores S of eq. 3, one head as no head index is printed, in single precision; and which pairs are removed.
    ///
    /// A pair stays where sigmoid(S) >= tau. Eq. 4 is printed the other way round, which would remove what the text calls
    /// relevant. S is compared with tau's logit, and no gradient runs through the comparison. A region that would lose
    /// every word keeps all of them (as in Mask2Former), because a softmax over nothing is not a number.
    ///
    /// # Shapes
    /// `z_v`: [B, L_v, C]; `z_l`: [B, L, C]; `padding`: [B, L]; outputs: [B, L_v, L]
    fn relevance(&self, z_v: Tensor<3>, z_l: Tensor<3>, padding: Tensor<2, Bool>) -> (Tensor<3>, Tensor<3, Bool>) {
        let [batch, regions, width] = z_v.dims();
        let words = z_l.dims()[1];
        let shape = [batch, regions, words];
        let [z_v, z_l] = [z_v, z_l].map(|z| z.cast(FloatDType::F32));
        let scores = z_v.matmul(z_l.swap_dims(1, 2)) / (width as f64).sqrt();
        let padding = padding.reshape([batch, 1, words]).expand(shape);
        if !self.masked {
            return (scores, padding);
        }
        let weak = scores.clone().lower_elem(self.tau);
        let any = weak.clone().bool_or(padding.clone()).bool_not().any_dim(2).expand(shape);
        (scores, padding.bool_or(weak.bool_and(any)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::tensor::TensorData;
    use text_encoders::clip::ClipTextConfig;

    /// W = identity, norms as initialised, four channels, computed by hand.
    fn identity(config: RisamConfig) -> MutualAttention {
        let device = Device::flex();
        let clip = ClipTextConfig { width: 4, ..ClipTextConfig::default() };
        let mut block = MutualAttention::new(&RisamConfig { width: 4, clip, ..config }, 0, &device);
        for linear in [&mut block.w_v, &mut block.w_l] {
            linear.weight = Param::from_tensor(Tensor::eye(4, &device));
        }
        block
    }

    fn inputs() -> (Tensor<3>, Tensor<3>) {
        let device = Device::flex();
        let v = Tensor::from_floats([[[1.0, 0.0, 2.0, -1.0], [0.0, 2.0, -1.0, 1.0], [-1.0, -1.0, 0.0, 0.5]]], &device);
        let t = Tensor::from_floats([[[1.0, 1.0, 0.0, 0.0], [-3.0, 0.0, 0.0, 1.0], [0.5, -2.0, 1.0, 0.0]]], &device);
        (v, t)
    }

    fn padding(flags: &[bool]) -> Tensor<2, Bool> {
        Tensor::from_data(TensorData::new(flags.to_vec(), [1, flags.len()]), &Device::flex())
    }

    fn values(x: Tensor<3>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    fn near(got: Tensor<3>, want: &[f32], bound: f32) {
        let got = values(got);
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < bound), "{got:?} against {want:?}");
    }

    #[test]
    fn equals_the_fixture() {
        let (v, t) = inputs();
        let block = identity(RisamConfig::default());
        let (scores, removed) = block.relevance(v.clone(), t.clone(), padding(&[false; 3]));
        near(scores, &[0.5, -2.0, 1.25, 1.0, 0.5, -2.5, -1.0, 1.75, 0.75], 1e-6);
        let kept: Vec<bool> = removed.bool_not().into_data().iter::<bool>().collect();
        assert_eq!(kept, [true, false, true, true, true, false, false, true, true]);
        let pair = block.forward(v, t, padding(&[false; 3]));
        near(pair.attention.unwrap(), &[0.320821, 0.0, 0.679179, 0.622459, 0.377541, 0.0, 0.0, 0.731059, 0.268941], 1e-6);
        let visual = [
            0.663741, -0.986864, 1.287023, -0.963900, -0.777641, 1.373169, -1.113955, 0.518427, -1.383221, -0.462416, 0.631554,
            1.214083,
        ];
        let language = [
            0.396689, 1.446514, -1.082044, -0.761160, -1.586202, 0.307288, 0.104801, 1.174113, 0.464066, -1.388221, 1.307785,
            -0.383630,
        ];
        near(pair.visual, &visual, 5e-5);
        near(pair.language, &language, 5e-5);
    }

    #[test]
    fn raising_tau_removes_pairs() {
        let (v, t) = inputs();
        let removed = |tau: f64| -> Vec<bool> {
            let block = identity(RisamConfig { tau, ..RisamConfig::default() });
            block.relevance(v.clone(), t.clone(), padding(&[false; 3])).1.into_data().iter::<bool>().collect()
        };
        let steps: Vec<Vec<bool>> = [0.05, 0.2, 0.35, 0.5, 0.65].map(removed).into();
        for pair in steps.windows(2) {
            assert!(pair[0].iter().zip(&pair[1]).all(|(less, more)| *more || !less), "{pair:?}");
        }
        let count = |flags: &[bool]| flags.iter().filter(|f| **f).count();
        assert!(count(&steps[4]) > count(&steps[0]));
    }

    #[test]
    fn a_region_without_relevant_words_keeps_all_valid_ones() {
        let (v, t) = inputs();
        let block = identity(RisamConfig { tau: 0.999, ..RisamConfig::default() });
        let pair = block.forward(v.clone(), t.clone(), padding(&[false, false, true]));
        let a = values(pair.attention.unwrap());
        for row in a.chunks(3) {
            assert!((row[0] + row[1] - 1.0).abs() < 1e-6 && row[0] > 0.0 && row[1] > 0.0 && row[2] == 0.0, "{row:?}");
        }
        assert!(values(pair.visual).iter().chain(&values(pair.language)).all(|x| x.is_finite()));
    }

    #[test]
    fn maps_of_both_directions() {
        let (v, t) = inputs();
        let none = [false, false, true];
        let maps = |softmax: LanguageSoftmax| {
            let block = identity(RisamConfig { language_softmax: softmax, ..RisamConfig::default() });
            (block.attend(v.clone(), t.clone(), padding(&none)), block.forward(v.clone(), t.clone(), padding(&none)), block)
        };
        let (both, pair, _) = maps(LanguageSoftmax::Words);
        // Word 0 is kept by regions 0 and 1, word 1 by regions 1 and 2, and word 2 is padding.
        near(both.words.clone(), &[1.0, 0.0, 0.0, 0.622459, 0.377541, 0.0, 0.0, 1.0, 0.0], 1e-6);
        near(both.words.clone(), &values(pair.attention.unwrap()), 1e-6);
        near(both.regions, &values(both.words.swap_dims(1, 2)), 1e-9);
        let (both, pair, block) = maps(LanguageSoftmax::Regions);
        let regions = values(both.regions.clone());
        for (word, row) in regions.chunks(3).enumerate() {
            let sum = if none[word] { 0.0 } else { 1.0 };
            assert!((row.iter().sum::<f32>() - sum).abs() < 1e-6, "{word}: {row:?}");
        }
        assert_eq!((regions[2], regions[3]), (0.0, 0.0), "removed pairs");
        let words = block.norm_l.forward(both.regions.matmul(v.clone()) + t.clone());
        near(pair.language.narrow(1, 0, 2), &values(words.narrow(1, 0, 2)), 1e-5);
    }

    #[test]
    fn a_sentence_of_padding_alone_stays_finite() {
        let (v, t) = inputs();
        for softmax in [LanguageSoftmax::Words, LanguageSoftmax::Regions] {
            let block = identity(RisamConfig { language_softmax: softmax, ..RisamConfig::default() });
            let pair = block.forward(v.clone(), t.clone(), padding(&[true; 3]));
            assert!(values(pair.visual).iter().chain(&values(pair.language)).all(|x| x.is_finite()));
            let maps = block.attend(v.clone(), t.clone(), padding(&[true; 3]));
            assert!(values(maps.words).iter().chain(&values(maps.regions)).all(|x| *x == 0.0));
        }
    }

    /// BRINet's order with everything written out: P = (Z_v + A Z_l) / 2 by the choice of the merging matrix.
    #[test]
    fn serial_regions_look_at_regions() {
        let (v, t) = inputs();
        let mut block = identity(RisamConfig { interaction: Interaction::Serial, ..RisamConfig::default() });
        let eye = Tensor::<2>::eye(4, &Device::flex()) * 0.5;
        let merge = block.merge.as_mut().unwrap();
        merge.weight = Param::from_tensor(Tensor::cat(vec![eye.clone(), eye], 0));
        merge.bias = None;
        let pair = block.forward(v.clone(), t.clone(), padding(&[false; 3]));
        let p = (v.clone() + pair.attention.unwrap().matmul(t.clone())) * 0.5;
        let looked = softmax(p.clone().matmul(v.clone().swap_dims(1, 2)) / 2.0, 2).matmul(v);
        near(pair.visual, &values(block.norm_v.forward(looked + p)), 1e-5);
        near(pair.language, &values(block.norm_l.forward(t)), 1e-6);
    }

    #[test]
    fn without_the_mask_only_padding_is_removed() {
        let (v, t) = inputs();
        let block = identity(RisamConfig { relevance_mask: false, ..RisamConfig::default() });
        let a = values(block.forward(v, t, padding(&[false, true, false])).attention.unwrap());
        assert!(a.iter().enumerate().all(|(i, w)| (*w == 0.0) == (i % 3 == 1)), "{a:?}");
    }

    #[test]
    fn vision_guided_words_are_only_normed() {
        let (v, t) = inputs();
        let block = identity(RisamConfig { interaction: Interaction::VisionGuided, ..RisamConfig::default() });
        let full = identity(RisamConfig::default()).forward(v.clone(), t.clone(), padding(&[false; 3]));
        let pair = block.forward(v, t.clone(), padding(&[false; 3]));
        near(pair.visual, &values(full.visual), 1e-6);
        near(pair.language, &values(block.norm_l.forward(t)), 1e-6);
    }

    #[test]
    fn normalised_over_regions_each_word_has_weight_one() {
        let (v, t) = inputs();
        let block = identity(RisamConfig { language_softmax: LanguageSoftmax::Regions, ..RisamConfig::default() });
        let pair = block.forward(v.clone(), t.clone(), padding(&[false; 3]));
        // Word 0 keeps regions 0 and 1 with scores 0.5 and 1.
        let weight = 1.0 / (1.0 + 0.5f32.exp());
        let region = |i: usize| v.clone().narrow(1, i, 1);
        let word = region(0) * weight + region(1) * (1.0 - weight) + t.narrow(1, 0, 1);
        near(pair.language.narrow(1, 0, 1), &values(block.norm_l.forward(word)), 1e-5);
    }
}
