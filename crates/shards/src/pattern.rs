//! Names of many shards in one: `in-{000000..000999}.tar`, `{train,val}-{0..9}.tar`.

use std::path::PathBuf;

use crate::ShardError;

/// Most files that one pattern may name.
const MOST: usize = 10_000_000;

/// The files that a pattern names, in order: `{a..b}` counts with the digits of `a`, `{x,y}` lists, several of them are combined.
///
/// # Errors
/// A brace that is not closed, a range that is none or goes down, more than ten million names.
pub fn expand(pattern: &str) -> Result<Vec<PathBuf>, ShardError> {
    let wrong = |what: &str| ShardError::Pattern { pattern: pattern.to_owned(), what: what.to_owned() };
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, inside)) = rest.split_once('{') {
        let (inside, after) = inside.split_once('}').ok_or_else(|| wrong("a { is not closed"))?;
        let words = alternatives(inside).ok_or_else(|| {
            wrong("between { and } belongs a range such as 000..999, from the smaller number on, or a list such as train,val")
        })?;
        if names.len().saturating_mul(words.len()) > MOST {
            return Err(wrong("names more than ten million files"));
        }
        names = names.iter().flat_map(|name| words.iter().map(move |word| format!("{name}{before}{word}"))).collect();
        rest = after;
    }
    Ok(names.into_iter().map(|name| PathBuf::from(name + rest)).collect())
}

fn alternatives(inside: &str) -> Option<Vec<String>> {
    let Some((first, last)) = inside.split_once("..") else {
        return (!inside.is_empty()).then(|| inside.split(',').map(str::to_owned).collect());
    };
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<usize>().ok()).flatten();
    let (begin, end, width) = (number(first)?, number(last)?, first.len());
    (begin <= end && end - begin < MOST).then(|| (begin..=end).map(|n| format!("{n:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Vec<String> {
        expand(pattern).unwrap().into_iter().map(|p| p.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn ranges_lists_and_both() {
        assert_eq!(names("a.tar"), ["a.tar"]);
        assert_eq!(names("d/in-{008..011}.tar"), ["d/in-008.tar", "d/in-009.tar", "d/in-010.tar", "d/in-011.tar"]);
        assert_eq!(names("{9..11}"), ["9", "10", "11"]);
        assert_eq!(names("{a,b}-{0..1}.tar"), ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (pattern, word) in [
            ("in-{000", "not closed"),
            ("{}", "range"),
            ("{5..1}", "smaller"),
            ("{a..b}", "range"),
            ("{0..99999999}", "range"),
            ("{0..9999}{0..9999}", "ten million"),
        ] {
            let error = expand(pattern).unwrap_err().to_string();
            assert!(error.starts_with(pattern) && error.contains(word), "{error}");
        }
    }
}
