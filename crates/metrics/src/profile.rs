use serde::{Deserialize, Serialize};

use pil_ops::resize_bilinear;

use crate::MetricError;

/// What the threshold is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// The network's output.
    Logit,
    /// Its sigmoid.
    Probability,
}

/// What is brought to the original size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resample {
    /// The logits; the threshold comes after.
    Logits,
    /// The binary map; any positive weight then counts, so masks grow by up to one source pixel.
    Binary,
}

/// A comparison sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// Strictly greater.
    Gt,
    /// Greater or equal.
    Ge,
}

impl Compare {
    /// Whether `value` passes `threshold`.
    #[must_use]
    pub fn passes(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Gt => value > threshold,
            Self::Ge => value >= threshold,
        }
    }
}

/// The IoU of an empty prediction with an empty truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyPolicy {
    /// 1.
    One,
    /// 0.
    Zero,
}

/// The rule of GRES for samples without a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoTarget {
    /// A model without a no-target head is taken to say "none" when its mask has fewer pixels than this, at the
    /// original size (GRES paper; the resolution is not stated there).
    pub min_pixels: u64,
}

/// How a prediction becomes a mask and how masks become figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalProfile {
    /// Name in reports.
    pub name: String,
    /// What the threshold is compared with.
    pub space: Space,
    /// The threshold.
    pub threshold: f64,
    /// Whether a value equal to the threshold is foreground.
    pub compare: Compare,
    /// What is brought to the original size.
    pub resample: Resample,
    /// The IoU of empty with empty.
    pub empty: EmptyPolicy,
    /// IoU thresholds of P@X.
    pub precision: Vec<f64>,
    /// Whether an IoU equal to the threshold counts.
    pub precision_compare: Compare,
    /// What is added to intersection and union before one is divided by the other, where the union is not 0.
    #[serde(default)]
    pub smoothing: [f64; 2],
    /// The GRES rule, where it applies.
    #[serde(default)]
    pub no_target: Option<NoTarget>,
}

impl EvalProfile {
    /// Saymask's own: logits resampled to the original size, probability strictly above 0.5, empty with empty is 1.
    #[must_use]
    pub fn saymask() -> Self {
        Self {
            name: "saymask".into(),
            space: Space::Probability,
            threshold: 0.5,
            compare: Compare::Gt,
            resample: Resample::Logits,
            empty: EmptyPolicy::One,
            precision: vec![0.5, 0.7, 0.9],
            precision_compare: Compare::Gt,
            smoothing: [0.0; 2],
            no_target: None,
        }
    }

    /// DIT's `test.py`: probability above 0.35 at the network's size, then a bilinear resize of the binary map, then
    /// above 0. IoU is (I + 1e-10) / (U + 1e-10).
    #[must_use]
    pub fn dit() -> Self {
        let smoothing = [1e-10; 2];
        Self { name: "dit".into(), threshold: 0.35, resample: Resample::Binary, smoothing, ..Self::saymask() }
    }

    /// EVF-SAM's `eval.py`: logits at the original size above 0, IoU is I / (U + 1e-10), 1 where both are empty.
    #[must_use]
    pub fn evf() -> Self {
        Self { name: "evf".into(), space: Space::Logit, threshold: 0.0, smoothing: [0.0, 1e-10], ..Self::saymask() }
    }

    /// LISA's validation: EVF-SAM's rules with I / (U + 1e-5).
    #[must_use]
    pub fn lisa() -> Self {
        Self { name: "lisa".into(), smoothing: [0.0, 1e-5], ..Self::evf() }
    }

    /// LAVT's `test.py`: the larger of two channels, which is a logit above 0; P@0.5 to P@0.9 with "at least", empty with empty
    /// is 0. LAVT compares at 480 x 480, which `saymask-referee` does; a meter counts what it is given.
    #[must_use]
    pub fn lavt() -> Self {
        Self {
            name: "lavt".into(),
            space: Space::Logit,
            threshold: 0.0,
            empty: EmptyPolicy::Zero,
            precision: vec![0.5, 0.6, 0.7, 0.8, 0.9],
            precision_compare: Compare::Ge,
            ..Self::saymask()
        }
    }

    /// CRIS: probability, resampled to the original size, above 0.35; IoU is I / (U + 1e-6), so empty with empty is 0; P@0.5 to
    /// P@0.9 with a strict sign. CRIS resamples with cubics, which `saymask-referee` does.
    #[must_use]
    pub fn cris() -> Self {
        Self { name: "cris".into(), empty: EmptyPolicy::Zero, smoothing: [0.0, 1e-6], ..Self::risam() }
    }

    /// Masks as the REFER toolkit holds them: at the original size, as they are, P@0.5 to P@0.9 with "at least", empty with empty
    /// is 0. The toolkit has no evaluator of masks; the signs are those of the code bases that were built on it (a reading of ours).
    #[must_use]
    pub fn refer() -> Self {
        Self { name: "refer".into(), space: Space::Probability, threshold: 0.5, ..Self::lavt() }
    }

    /// RISAM: logits resampled, probability above 0.35; overall IoU and Pr@50 to Pr@90 with a strict sign.
    #[must_use]
    pub fn risam() -> Self {
        Self { name: "risam".into(), threshold: 0.35, precision: vec![0.5, 0.6, 0.7, 0.8, 0.9], ..Self::saymask() }
    }

    /// GRES (ReLA): no-target rule, P@0.7 to P@0.9 with "at least", over samples that have a target. ReLA compares at
    /// 480 x 480; this profile compares at the original size.
    #[must_use]
    pub fn gres() -> Self {
        Self {
            name: "gres".into(),
            space: Space::Logit,
            threshold: 0.0,
            empty: EmptyPolicy::Zero,
            precision: vec![0.7, 0.8, 0.9],
            precision_compare: Compare::Ge,
            no_target: Some(NoTarget { min_pixels: 50 }),
            ..Self::saymask()
        }
    }

    /// GRES as ReLA's code counts it: [`EvalProfile::gres`], for masks that are compared at 480 x 480.
    #[must_use]
    pub fn rela() -> Self {
        Self { name: "rela".into(), ..Self::gres() }
    }

    /// PhraseCut's evaluator, which takes masks as they are: an empty intersection counts as 0, P@0.5 to P@0.9 with a
    /// strict sign. Its mean and cumulative mask IoU are [`Report::miou`](crate::Report::miou) and
    /// [`Report::oiou`](crate::Report::oiou).
    #[must_use]
    pub fn phrasecut() -> Self {
        Self { name: "phrasecut".into(), empty: EmptyPolicy::Zero, precision: vec![0.5, 0.6, 0.7, 0.8, 0.9], ..Self::saymask() }
    }

    /// Names of all profiles.
    pub const NAMES: [&'static str; 11] =
        ["saymask", "dit", "evf", "lisa", "risam", "lavt", "cris", "refer", "gres", "rela", "phrasecut"];

    /// A profile by its name.
    ///
    /// # Errors
    /// If the name is none of [`EvalProfile::NAMES`].
    pub fn named(name: &str) -> Result<Self, MetricError> {
        match name {
            "saymask" => Ok(Self::saymask()),
            "dit" => Ok(Self::dit()),
            "evf" => Ok(Self::evf()),
            "lisa" => Ok(Self::lisa()),
            "risam" => Ok(Self::risam()),
            "lavt" => Ok(Self::lavt()),
            "cris" => Ok(Self::cris()),
            "refer" => Ok(Self::refer()),
            "gres" => Ok(Self::gres()),
            "rela" => Ok(Self::rela()),
            "phrasecut" => Ok(Self::phrasecut()),
            _ => Err(MetricError::Profile { found: name.into() }),
        }
    }

    /// The threshold as a logit, so that no sigmoid has to be taken of whole maps.
    #[must_use]
    pub fn logit_threshold(&self) -> f64 {
        match self.space {
            Space::Logit => self.threshold,
            Space::Probability => (self.threshold / (1.0 - self.threshold)).ln(),
        }
    }

    /// A mask of 0 and 1 at the original size from logits of the valid (unpadded) area.
    ///
    /// # Shapes
    /// Logits `[from.0, from.1]` (height, width, row-major) to `[to.0, to.1]`.
    ///
    /// # Errors
    /// If a side is 0 or the length is not `from.0 * from.1`.
    pub fn binarise(&self, logits: &[f32], from: (usize, usize), to: (usize, usize)) -> Result<Vec<u8>, MetricError> {
        let threshold = self.logit_threshold();
        let on = |v: f32| self.compare.passes(f64::from(v), threshold);
        match self.resample {
            Resample::Logits => Ok(resize_bilinear(logits, from, to)?.into_iter().map(|v| u8::from(on(v))).collect()),
            Resample::Binary => {
                let map: Vec<f32> = logits.iter().map(|&v| f32::from(u8::from(on(v)))).collect();
                Ok(resize_bilinear(&map, from, to)?.into_iter().map(|v| u8::from(v > 0.0)).collect())
            }
        }
    }

    /// Whether a prediction says "no target": the model's own head if it has one, else too few pixels. Always false
    /// without the GRES rule. Without a head the whole prediction is then empty: clear the mask before it is compared.
    #[must_use]
    pub fn says_none(&self, predicted_pixels: u64, head: Option<bool>) -> bool {
        self.no_target.is_some_and(|rule| head.unwrap_or(predicted_pixels < rule.min_pixels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        assert!((EvalProfile::dit().logit_threshold() - -0.619_039_2).abs() < 1e-7);
        assert_eq!(EvalProfile::saymask().logit_threshold(), 0.0);
        // Strict: exactly one half is background.
        assert_eq!(EvalProfile::saymask().binarise(&[0.0, 1e-6], (1, 2), (1, 2)).unwrap(), [0, 1]);
        assert_eq!(EvalProfile::risam().binarise(&[-0.62, -0.618], (1, 2), (1, 2)).unwrap(), [0, 1]);
    }

    #[test]
    fn dit_dilates_a_two_pixel_square_from_4_to_9() {
        let mut logits = vec![-9.0f32; 16];
        for i in [5, 6, 9, 10] {
            logits[i] = 9.0;
        }
        // Source positions of the 9 outputs: (i + 0.5) * 4 / 9 - 0.5 = -0.28, 0.17, 0.61, 1.06, 1.5, 1.94, 2.39, 2.83,
        // 3.28. All but the first and last touch pixels 1 or 2; nearest by value (0.5 and above) is 2 to 6.
        let on_side = |profile: EvalProfile| {
            let out = profile.binarise(&logits, (4, 4), (9, 9)).unwrap();
            out[4 * 9..5 * 9].to_vec()
        };
        assert_eq!(on_side(EvalProfile::dit()), [0, 1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(on_side(EvalProfile::saymask()), [0, 0, 1, 1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn names() {
        for name in EvalProfile::NAMES {
            let profile = EvalProfile::named(name).unwrap();
            assert_eq!(profile.name, name);
            let json = serde_json::to_string(&profile).unwrap();
            assert_eq!(serde_json::from_str::<EvalProfile>(&json).unwrap(), profile);
        }
        assert!(EvalProfile::named("mcn").unwrap_err().to_string().contains("saymask, dit"));
    }
}
