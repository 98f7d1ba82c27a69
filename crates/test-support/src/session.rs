//! A command-line session in a folder of its own: commands that must work, commands that must be refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder in which a program runs.
pub struct Session {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Session {
    /// An empty folder for runs of `program`: `env!("CARGO_BIN_EXE_...")`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), program: program.into() }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with arguments, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("RUST_BACKTRACE").env_remove("SAYMASK_INVOKED_AS");
        command
    }

    /// Runs a command, whatever becomes of it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must work; its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Runs a command that must fail with exit code 2; its one-line message.
    pub fn refused(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("error: ") && !text.contains("panicked"), "{text}");
        last
    }
}

/// A JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
