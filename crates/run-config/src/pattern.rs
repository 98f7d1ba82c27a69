//! Parameter-name patterns of `model.freeze`, `model.train` and `optim.groups`.

/// Whether `pattern` names the parameter `name`.
///
/// A pattern without `*` names one parameter or everything below it: `visual_encoder` covers
/// `visual_encoder.blocks.0.norm1.weight` but not `visual_encoder2.weight`. A `*` stands for any run of letters, dots
/// included, and then the whole name must fit: `visual_encoder.sas*`, `*.bias`.
#[must_use]
pub fn pattern_matches(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return name.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let last = parts.pop().unwrap_or_default();
    // The shortest match of each middle part leaves the most for the rest, so no backtracking is needed.
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use crate::pattern_matches;

    #[test]
    fn plain_patterns_stop_at_dots() {
        assert!(pattern_matches("visual_encoder", "visual_encoder"));
        assert!(pattern_matches("visual_encoder", "visual_encoder.blocks.0"));
        assert!(!pattern_matches("visual_encoder", "visual_encoder2.blocks"));
        assert!(!pattern_matches("blocks", "visual_encoder.blocks"));
    }

    #[test]
    fn stars_fit_the_whole_name() {
        assert!(pattern_matches("*.bias", "a.b.bias"));
        assert!(!pattern_matches("*.bias", "a.bias.x"));
        assert!(pattern_matches("visual_encoder.sas*", "visual_encoder.sas.3.weight"));
        assert!(pattern_matches("a*b*c", "a-b-b-c"));
        assert!(!pattern_matches("a*b*c", "a-c-b"));
        assert!(pattern_matches("*", "anything"));
        assert!(!pattern_matches("ab*ba", "aba"));
    }
}
