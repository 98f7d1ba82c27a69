//! `devices`, and devices that are not here.

#[test]
fn devices_are_listed_one_line_each() {
    let s = super::session();
    let said = s.ok(&["devices"]);
    let lines: Vec<&str> = said.lines().collect();
    for kind in ["cpu", "cuda", "vulkan", "metal", "wgpu"] {
        let own: Vec<&&str> = lines.iter().filter(|l| l.starts_with(kind)).collect();
        assert!(!own.is_empty(), "{kind} is not in:\n{said}");
        for line in own {
            let (state, rest) = (line.contains("available"), line.split("missing").nth(1));
            assert!(state || rest.is_some_and(|why| why.trim().len() > 10), "{line}");
        }
    }
    assert!(lines[0].starts_with("cpu ") && lines[0].contains("available") && lines[0].contains("threads"), "{said}");
    if cfg!(not(target_os = "macos")) {
        assert!(said.contains("macOS only"), "{said}");
    }
}

#[test]
fn a_missing_device_is_refused_with_its_reason() {
    let s = super::session();
    let list = s.ok(&["devices"]);
    for kind in ["cuda", "vulkan", "metal", "wgpu"] {
        let Some(why) = list.lines().find(|l| l.starts_with(kind) && l.contains("missing")) else { continue };
        let why = why.split_once("missing").unwrap().1.trim();
        let message = s.refused(&["train", "--device", kind]);
        assert_eq!(message, format!("error: --device {kind}: {why}"));
        let message = s.refused(&["check", "nope", "--device", kind]);
        assert!(message.contains(why), "{message}");
    }
    for (word, right) in [("list", "`devices`"), ("vulkan:x", "vulkan[:N|:cpu]"), ("cpu:1", "write cpu")] {
        let message = s.refused(&["check", "nope", "--device", word]);
        assert!(message.contains(right), "{message}");
    }
    assert!(!s.path("runs").exists() && !s.path("data").exists(), "a refused run must leave nothing behind");
}
