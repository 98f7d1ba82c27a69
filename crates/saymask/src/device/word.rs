//! What `--device` may say.

use std::fmt;

use anyhow::{Result, bail};

/// A way to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The processor, through Burn's Flex.
    Cpu,
    /// NVIDIA.
    Cuda,
    /// Vulkan with SPIR-V.
    Vulkan,
    /// Apple.
    Metal,
    /// Whatever graphics interface there is, with WGSL where nothing better is built in.
    Wgpu,
}

/// Which of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The first that is hardware.
    Best,
    /// The one of that number in `devices`.
    Number(usize),
    /// A driver that computes on the processor.
    Software,
}

/// A parsed word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Before the colon.
    pub kind: Kind,
    /// Behind it.
    pub pick: Pick,
}

impl Kind {
    /// All of them, as listed.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::Vulkan, Self::Metal, Self::Wgpu];

    /// As `--device` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Wgpu => "wgpu",
        }
    }

    /// Whether it goes through wgpu.
    pub fn is_wgpu(self) -> bool {
        matches!(self, Self::Vulkan | Self::Metal | Self::Wgpu)
    }

    /// What may follow the name.
    fn more(self) -> &'static str {
        match self {
            Self::Cpu => "",
            Self::Cuda | Self::Metal => "[:N]",
            Self::Vulkan | Self::Wgpu => "[:N|:cpu]",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Word {
    /// Reads `cpu`, `cuda[:N]`, `vulkan[:N|:cpu]`, `metal[:N]` or `wgpu[:N|:cpu]`.
    ///
    /// # Errors
    /// Anything else, with what would be right.
    pub fn parse(word: &str) -> Result<Self> {
        let (name, behind) = match word.split_once(':') {
            Some((name, behind)) => (name, Some(behind)),
            None => (word, None),
        };
        let Some(kind) = Kind::ALL.into_iter().find(|k| k.name() == name) else {
            let known: Vec<String> = Kind::ALL.iter().map(|k| format!("{k}{}", k.more())).collect();
            bail!("--device {word}: unknown device; known are {}; `devices` lists what is here", known.join(", "));
        };
        let pick = match behind {
            None => Pick::Best,
            Some("cpu") if matches!(kind, Kind::Vulkan | Kind::Wgpu) => Pick::Software,
            Some(number) => match number.parse() {
                Ok(n) if kind != Kind::Cpu => Pick::Number(n),
                _ => bail!("--device {word}: write {kind}{}, N counted from 0 as `devices` lists them", kind.more()),
            },
        };
        Ok(Self { kind, pick })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let word = |kind, pick| Word { kind, pick };
        assert_eq!(Word::parse("cpu").unwrap(), word(Kind::Cpu, Pick::Best));
        assert_eq!(Word::parse("cuda").unwrap(), word(Kind::Cuda, Pick::Best));
        assert_eq!(Word::parse("cuda:3").unwrap(), word(Kind::Cuda, Pick::Number(3)));
        assert_eq!(Word::parse("vulkan:1").unwrap(), word(Kind::Vulkan, Pick::Number(1)));
        assert_eq!(Word::parse("vulkan:cpu").unwrap(), word(Kind::Vulkan, Pick::Software));
        assert_eq!(Word::parse("wgpu:cpu").unwrap(), word(Kind::Wgpu, Pick::Software));
        assert_eq!(Word::parse("metal").unwrap(), word(Kind::Metal, Pick::Best));
    }

    #[test]
    fn others_are_refused_with_what_is_right() {
        for (text, right) in [
            ("tpu", "vulkan[:N|:cpu]"),
            ("", "known are cpu"),
            ("list", "`devices`"),
            ("CUDA", "cuda[:N]"),
            ("cpu:0", "write cpu,"),
            ("cuda:", "write cuda[:N]"),
            ("cuda:cpu", "write cuda[:N]"),
            ("cuda:-1", "write cuda[:N]"),
            ("vulkan:x", "write vulkan[:N|:cpu]"),
            ("wgpu:1:2", "write wgpu[:N|:cpu]"),
        ] {
            let message = Word::parse(text).unwrap_err().to_string();
            assert!(message.contains(right) && message.contains(&format!("--device {text}")), "{message}");
        }
    }
}
