//! Referring-segmentation metrics: oIoU, mIoU, P@X, gIoU, cIoU, N-acc, T-acc.
//!
//! Published figures of this field were made with different thresholds, at different sizes and with different
//! comparison signs. An [`EvalProfile`] holds those choices as data, a [`Meter`] sums integers and f64 in the order of
//! the samples, and a [`Report`] always names the profile, split and threshold behind its figures.
//!
//! ```
//! use metrics::{Confusion, EvalProfile, Meter, Sample};
//!
//! let profile = EvalProfile::saymask();
//! // Logits of a 2 x 2 map, compared at 2 x 2.
//! let prediction = profile.binarise(&[1.5, -0.5, 0.0, 3.0], (2, 2), (2, 2))?;
//! assert_eq!(prediction, [1, 0, 0, 1]);
//! let mut meter = Meter::new(profile);
//! meter.add(&Sample::new(Confusion::from_bytes(&prediction, &[1, 0, 0, 0])?, 1));
//! let report = meter.report("val");
//! assert_eq!((report.oiou, report.miou, report.samples), (0.5, 0.5, 1));
//! # Ok::<(), metrics::MetricError>(())
//! ```
//!
//! # Names
//! oIoU (also "cIoU" in GRES, "overall IoU" elsewhere) is the sum of intersections over the sum of unions. mIoU is the
//! mean of per-sample IoU; LISA and EVF-SAM print it as "gIoU". GRES' gIoU is mIoU with its own rule for samples without
//! a target. One sample is one expression. All figures are fractions between 0 and 1.
//!
//! # Limits
//! Figures of the reference implementations that come from averaging over GPU ranks, from samples repeated by a
//! distributed sampler are not imitated. A meter counts the overlaps that it is given; what a code base does to masks before they
//! overlap (480 x 480, polygons that lie on each other, masks of another size) is `saymask-referee`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod confusion;
mod meter;
mod profile;

pub use confusion::{Confusion, MetricError};
pub use meter::{GresReport, KindReport, Meter, PrecisionAt, Report, Sample};
pub use profile::{Compare, EmptyPolicy, EvalProfile, NoTarget, Resample, Space};
