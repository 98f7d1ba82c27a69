use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Confusion, EvalProfile, Resample, Space};

/// One expression's outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Overlap in pixels.
    pub confusion: Confusion,
    /// Foreground pixels of the truth; 0 means there is no target.
    pub truth_pixels: u64,
    /// Whether the prediction says "no target" (see [`EvalProfile::says_none`]); only the GRES rule looks at it.
    pub says_none: bool,
    /// Whether there is no prediction at all: IoU 0 under every profile, even where nothing is meant.
    pub missing: bool,
    /// Groups for the table by kind, e.g. "colour", or PhraseCut's subsets.
    pub kinds: Vec<String>,
}

impl Sample {
    /// A sample without kinds whose prediction claims a target.
    #[must_use]
    pub fn new(confusion: Confusion, truth_pixels: u64) -> Self {
        Self { confusion, truth_pixels, says_none: false, missing: false, kinds: Vec::new() }
    }

    /// The same sample, counted under one kind more.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kinds.push(kind.into());
        self
    }
}

/// Sums over samples. Integers stay integers; IoU is summed in f64 in the order of [`Meter::add`], so that equal runs
/// give equal bits.
#[derive(Debug, Clone)]
pub struct Meter {
    profile: EvalProfile,
    samples: u64,
    intersection: u64,
    union: u64,
    iou: f64,
    targets: u64,
    hits: Vec<u64>,
    // GRES: [no target and said so, no target but mask, target but "none", target and mask]
    cells: [u64; 4],
    // samples, sum of IoU, intersection, union
    kinds: BTreeMap<String, (u64, f64, u64, u64)>,
}

impl Meter {
    /// An empty meter.
    #[must_use]
    pub fn new(profile: EvalProfile) -> Self {
        let hits = vec![0; profile.precision.len()];
        Self { profile, samples: 0, intersection: 0, union: 0, iou: 0.0, targets: 0, hits, cells: [0; 4], kinds: BTreeMap::new() }
    }

    /// The profile in use.
    #[must_use]
    pub fn profile(&self) -> &EvalProfile {
        &self.profile
    }

    /// Samples so far.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Counts a sample and returns the IoU it was given.
    pub fn add(&mut self, sample: &Sample) -> f64 {
        let no_target = sample.truth_pixels == 0;
        let (i, u, iou) = self.score(sample, no_target);
        self.samples += 1;
        self.intersection += i;
        self.union += u;
        self.iou += iou;
        self.cells[usize::from(!no_target) * 2 + usize::from(!sample.says_none)] += 1;
        // GRES counts precision over samples that have a target only.
        if self.profile.no_target.is_none() || !no_target {
            self.targets += 1;
            for (hit, &at) in self.hits.iter_mut().zip(&self.profile.precision) {
                *hit += u64::from(self.profile.precision_compare.passes(iou, at));
            }
        }
        for kind in &sample.kinds {
            let entry = self.kinds.entry(kind.clone()).or_default();
            *entry = (entry.0 + 1, entry.1 + iou, entry.2 + i, entry.3 + u);
        }
        iou
    }

    /// ReLA's rule is not symmetric: a missed target adds to the union, a rightly empty answer adds nothing.
    fn score(&self, sample: &Sample, no_target: bool) -> (u64, u64, f64) {
        let c = sample.confusion;
        let iou = c.iou_smoothed(self.profile.empty, self.profile.smoothing);
        if sample.missing {
            return (0, c.union, 0.0);
        }
        if self.profile.no_target.is_none() {
            return (c.intersection, c.union, iou);
        }
        match (no_target, sample.says_none) {
            (true, true) => (0, 0, 1.0),
            (true, false) | (false, true) => (0, c.union, 0.0),
            (false, false) => (c.intersection, c.union, iou),
        }
    }

    /// The figures so far. Without samples all of them are 0.
    #[must_use]
    pub fn report(&self, split: &str) -> Report {
        let ratio = |a: f64, b: u64| if b == 0 { 0.0 } else { a / b as f64 };
        let [right_none, false_mask, false_none, right_mask] = self.cells;
        let share = |a: u64, b: u64| (a + b > 0).then(|| a as f64 / (a + b) as f64);
        let oiou = ratio(self.intersection as f64, self.union);
        let miou = ratio(self.iou, self.samples);
        Report {
            profile: self.profile.name.clone(),
            dataset: String::new(),
            split_by: String::new(),
            split: split.into(),
            threshold: self.profile.threshold,
            space: self.profile.space,
            resample: self.profile.resample,
            samples: self.samples,
            intersection: self.intersection,
            union: self.union,
            oiou,
            miou,
            precision: self
                .hits
                .iter()
                .zip(&self.profile.precision)
                .map(|(&hit, &at)| PrecisionAt { at, value: ratio(hit as f64, self.targets) })
                .collect(),
            gres: self.profile.no_target.map(|rule| GresReport {
                giou: miou,
                ciou: oiou,
                n_acc: share(right_none, false_mask),
                t_acc: share(right_mask, false_none),
                min_pixels: rule.min_pixels,
            }),
            kinds: self
                .kinds
                .iter()
                .map(|(kind, &(n, sum, i, u))| {
                    (kind.clone(), KindReport { samples: n, miou: ratio(sum, n), oiou: ratio(i as f64, u) })
                })
                .collect(),
        }
    }
}

/// The share of samples whose IoU passes a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrecisionAt {
    /// IoU threshold.
    pub at: f64,
    /// Share, 0 to 1.
    pub value: f64,
}

/// The figures of generalised referring segmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GresReport {
    /// Mean IoU under the no-target rule.
    pub giou: f64,
    /// Overall IoU under the no-target rule.
    pub ciou: f64,
    /// Share of no-target samples recognised; none if there are none.
    pub n_acc: Option<f64>,
    /// Share of targeted samples given a mask; none if there are none.
    pub t_acc: Option<f64>,
    /// The pixel rule for models without a no-target head.
    pub min_pixels: u64,
}

/// Figures of one kind of sentence, or of one of PhraseCut's subsets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KindReport {
    /// Samples.
    pub samples: u64,
    /// Mean IoU.
    pub miou: f64,
    /// Overall IoU.
    #[serde(default)]
    pub oiou: f64,
}

impl Report {
    /// The same figures, of a data set.
    #[must_use]
    pub fn of(self, dataset: impl Into<String>, split_by: impl Into<String>) -> Self {
        Self { dataset: dataset.into(), split_by: split_by.into(), ..self }
    }

    /// `refcoco (unc) val`, or the split alone where the data set is not known.
    #[must_use]
    pub fn whole_split(&self) -> String {
        let Self { dataset, split_by, split, .. } = self;
        if dataset.is_empty() { split.clone() } else { format!("{dataset} ({split_by}) {split}") }
    }

    /// `refcoco-unc-val`: the name of its files.
    #[must_use]
    pub fn stem(&self) -> String {
        let Self { dataset, split_by, split, .. } = self;
        if dataset.is_empty() { split.clone() } else { format!("{dataset}-{split_by}-{split}") }
    }
}

/// Figures together with what they depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Profile name.
    pub profile: String,
    /// Data set; empty where a meter was not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dataset: String,
    /// Who made its splits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub split_by: String,
    /// Split name.
    pub split: String,
    /// Binarisation threshold.
    pub threshold: f64,
    /// What the threshold is compared with.
    pub space: Space,
    /// What was resampled.
    pub resample: Resample,
    /// Expressions counted.
    pub samples: u64,
    /// Sum of intersections, in pixels.
    pub intersection: u64,
    /// Sum of unions, in pixels.
    pub union: u64,
    /// Overall IoU.
    pub oiou: f64,
    /// Mean IoU.
    pub miou: f64,
    /// P@X.
    pub precision: Vec<PrecisionAt>,
    /// GRES figures, with the `gres` profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gres: Option<GresReport>,
    /// mIoU and oIoU by kind of sentence, where kinds are known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, KindReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(intersection: u64, union: u64, truth: u64) -> Sample {
        Sample::new(Confusion { intersection, union }, truth)
    }

    #[test]
    fn overall_and_mean_differ() {
        let mut meter = Meter::new(EvalProfile::saymask());
        meter.add(&sample(90, 100, 95).with_kind("colour"));
        meter.add(&sample(1, 10, 5).with_kind("place"));
        meter.add(&sample(0, 0, 0).with_kind("place"));
        meter.add(&sample(1, 2, 1));
        let report = meter.report("val");
        assert_eq!(report.oiou, 92.0 / 112.0);
        assert_eq!(report.miou, (0.9 + 0.1 + 1.0 + 0.5) / 4.0);
        // Strict: 0.5 is not above 0.5, 0.9 is not above 0.9.
        assert_eq!(report.precision.iter().map(|p| p.value).collect::<Vec<_>>(), [0.5, 0.5, 0.25]);
        assert_eq!(report.kinds["place"], KindReport { samples: 2, miou: 0.55, oiou: 0.1 });
        assert_eq!((report.profile.as_str(), report.split.as_str(), report.samples), ("saymask", "val", 4));
        assert!(report.gres.is_none());
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn gres_rule() {
        let mut meter = Meter::new(EvalProfile::gres());
        let none = |s: Sample| Sample { says_none: true, ..s };
        assert_eq!(meter.add(&none(sample(0, 7, 0))), 1.0, "rightly none, whatever the mask");
        assert_eq!(meter.add(&sample(0, 60, 0)), 0.0, "mask without target");
        assert_eq!(meter.add(&none(sample(5, 40, 30))), 0.0, "missed target");
        assert_eq!(meter.add(&sample(70, 100, 80)), 0.7, "normal");
        assert_eq!(meter.add(&sample(30, 60, 80)), 0.5, "normal");
        assert_eq!(meter.add(&sample(0, 40, 0)), 0.0, "mask without target");
        let report = meter.report("testA");
        let gres = report.gres.unwrap();
        assert_eq!(gres.ciou, 100.0 / 300.0);
        assert_eq!(gres.giou, 2.2 / 6.0);
        assert_eq!((gres.n_acc, gres.t_acc), (Some(1.0 / 3.0), Some(2.0 / 3.0)));
        // "At least", over the three samples with a target.
        assert_eq!(report.precision[0].value, 1.0 / 3.0);
    }

    /// PhraseCut's evaluator: an empty intersection is 0 even where nothing was asked for, thresholds are strict, and a
    /// phrase counts in each of its subsets.
    #[test]
    fn phrasecut_rule() {
        let mut meter = Meter::new(EvalProfile::phrasecut());
        meter.add(&sample(0, 0, 0).with_kind("s_small").with_kind("i_single"));
        meter.add(&sample(30, 50, 40).with_kind("s_small").with_kind("i_multi"));
        let report = meter.report("test");
        assert_eq!((report.miou, report.oiou), (0.3, 0.6));
        assert_eq!(
            report.precision.iter().map(|p| (p.at, p.value)).collect::<Vec<_>>(),
            [(0.5, 0.5), (0.6, 0.0), (0.7, 0.0), (0.8, 0.0), (0.9, 0.0)]
        );
        assert_eq!(report.kinds["s_small"], KindReport { samples: 2, miou: 0.3, oiou: 0.6 });
        assert_eq!(report.kinds["i_multi"], KindReport { samples: 1, miou: 0.6, oiou: 0.6 });
    }

    /// EVF-SAM divides by the union plus 1e-10, DIT adds 1e-10 to both: a bare 0.7 then passes DIT's strict P@0.7.
    #[test]
    fn smoothing() {
        let of = |profile: EvalProfile| {
            let mut meter = Meter::new(profile);
            (meter.add(&sample(7, 10, 9)), meter.report("val").precision[1].value)
        };
        assert_eq!(of(EvalProfile::saymask()), (0.7, 0.0));
        assert_eq!(of(EvalProfile::evf()), (7.0 / (10.0 + 1e-10), 0.0));
        assert_eq!(of(EvalProfile::dit()), ((7.0 + 1e-10) / (10.0 + 1e-10), 1.0));
    }

    #[test]
    fn what_is_missing_earns_nothing() {
        for profile in EvalProfile::NAMES.map(|name| EvalProfile::named(name).unwrap()) {
            let mut meter = Meter::new(profile);
            assert_eq!(meter.add(&Sample { missing: true, ..sample(0, 0, 0) }), 0.0);
            assert_eq!(meter.add(&Sample { missing: true, ..sample(0, 30, 30) }), 0.0);
            let report = meter.report("val");
            assert_eq!((report.union, report.miou), (30, 0.0), "{}", report.profile);
        }
    }

    #[test]
    fn fifty_pixels() {
        let gres = EvalProfile::gres();
        assert!(gres.says_none(49, None) && !gres.says_none(50, None));
        assert!(gres.says_none(500, Some(true)) && !gres.says_none(0, Some(false)));
        assert!(!EvalProfile::saymask().says_none(0, None));
    }

    #[test]
    fn nothing_added() {
        let report = Meter::new(EvalProfile::gres()).report("val");
        assert_eq!((report.oiou, report.miou, report.samples), (0.0, 0.0, 0));
        assert_eq!(report.gres.unwrap().n_acc, None);
    }
}
