//! Joined results under every protocol.

use metrics::{Meter, Report, Sample};
use rayon::prelude::*;

use crate::join::Joined;
use crate::protocol::{Protocol, Refusal};
use crate::results::Results;
use crate::split::Split;
use crate::{Answer, RefereeError};

/// Expressions that are judged at once; more would hold more masks in memory.
const CHUNK: usize = 256;

/// What a protocol made of the results.
#[derive(Debug, Clone)]
pub struct Score {
    /// The protocol.
    pub protocol: Protocol,
    /// Its figures, or why there are none.
    pub outcome: Result<Report, Refused>,
    /// Answers whose size is neither the image's nor that at which the protocol compares.
    pub other_size: u64,
}

/// Results that a protocol does not judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub count: usize,
    /// The first, and why.
    pub first: String,
}

/// An answer to an expression.
#[derive(Debug, Clone)]
pub struct Given {
    /// The mask or map; none where there is no result.
    pub answer: Option<Answer>,
    /// What a head for "there is no target" said.
    pub no_target: Option<bool>,
}

/// Whether an answer has a size of its own, and what a protocol made of it.
type Judged = (bool, Result<Sample, Refusal>);

/// Scores results. `on_event` hears the number of expressions done.
///
/// # Errors
/// A mask that cannot be read, named by its place.
pub fn score(
    split: &Split,
    results: &Results,
    joined: &Joined,
    protocols: &[Protocol],
    on_event: impl FnMut(usize),
) -> Result<Vec<Score>, RefereeError> {
    let given = |expression: usize| {
        let Some(record) = joined.records[expression].map(|at| &results.records[at]) else {
            return Ok(Given { answer: None, no_target: None });
        };
        let truth = split.truth(expression).union();
        let answer = record.answer((truth.height(), truth.width())).map_err(|what| RefereeError::Result {
            path: results.path.clone(),
            place: record.place.clone(),
            what,
        })?;
        Ok(Given { answer: Some(answer), no_target: record.no_target })
    };
    score_with(split, given, protocols, on_event)
}

/// As [`score`], with answers from memory.
///
/// # Errors
/// Those of `given`.
pub fn score_with(
    split: &Split,
    given: impl Fn(usize) -> Result<Given, RefereeError> + Sync,
    protocols: &[Protocol],
    mut on_event: impl FnMut(usize),
) -> Result<Vec<Score>, RefereeError> {
    let mut meters: Vec<Meter> = protocols.iter().map(|p| Meter::new(p.profile.clone())).collect();
    let mut refused: Vec<Option<Refused>> = vec![None; protocols.len()];
    let mut other_size = vec![0; protocols.len()];
    let all: Vec<usize> = (0..split.expressions.len()).collect();
    let mut done = 0;
    for chunk in all.chunks(CHUNK) {
        let judge = |&expression: &usize| -> Result<Vec<Judged>, RefereeError> {
            let (given, truth) = (given(expression)?, split.truth(expression));
            let kinds = &split.expressions[expression].kinds;
            let image = (truth.union().height(), truth.union().width());
            let one = |protocol: &Protocol| {
                let sample = match &given.answer {
                    Some(answer) => protocol.judge(answer, given.no_target, truth),
                    None => protocol.missing(truth),
                };
                let known = [image, protocol.frame(image)];
                let other = given.answer.as_ref().is_some_and(|answer| !known.contains(&answer.size()));
                (other, sample.map(|sample| Sample { kinds: kinds.clone(), ..sample }))
            };
            Ok(protocols.iter().map(one).collect())
        };
        let judged: Vec<_> = chunk.par_iter().map(judge).collect();
        // Sums run in the order of the expressions, so figures do not depend on threads.
        for (expression, samples) in chunk.iter().zip(judged) {
            let sums = meters.iter_mut().zip(&mut refused).zip(&mut other_size);
            for (((meter, refused), other_size), (other, sample)) in sums.zip(samples?) {
                *other_size += u64::from(other);
                match sample {
                    Ok(sample) => {
                        meter.add(&sample);
                    }
                    Err(why) => {
                        let first = || Refused { count: 0, first: format!("{}: {why}", split.describe(*expression)) };
                        refused.get_or_insert_with(first).count += 1;
                    }
                }
            }
        }
        done += chunk.len();
        on_event(done);
    }
    let outcome = |(meter, refused): (Meter, Option<Refused>)| match refused {
        Some(refused) => Err(refused),
        None => Ok(meter.report(&split.set[2]).of(&split.set[0], &split.set[1])),
    };
    let outcomes = meters.into_iter().zip(refused).map(outcome).zip(other_size);
    let score = |(protocol, (outcome, other_size)): (Protocol, _)| Score { protocol, outcome, other_size };
    Ok(protocols.iter().cloned().zip(outcomes).map(score).collect())
}
