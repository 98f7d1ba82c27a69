//! Commands that are killed at some moment and run again: what they leave must equal an unbroken run's, byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// System calls that change a disk; a process is killed as it enters one.
const CALLS: &str = "write,pwrite64,rename,renameat2,fsync,fdatasync,ftruncate,mkdir,unlink,rmdir";

/// A command that is killed, and how it is taken up again.
pub struct Trial<'a> {
    /// What is tried, for the table.
    pub name: &'static str,
    /// The program.
    pub program: &'a Path,
    /// A folder as it is before the command; every trial works in a copy of it.
    pub before: &'a Path,
    /// The command.
    pub args: &'a [&'a str],
    /// What a user runs after the crash, in the folder as it is then.
    pub again: fn(&Path) -> Vec<String>,
    /// The files, below the folder, that must come out equal: those that this accepts.
    pub kept: fn(&Path) -> bool,
}

/// What came of the moments of a trial.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Kills that hit the command.
    pub killed: usize,
    /// Kills that came too late: the command had ended.
    pub late: usize,
    /// Moments after which the result equals an unbroken run's.
    pub survived: usize,
    /// What was lost, in words.
    pub lost: Vec<String>,
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After a time.
    Time(Duration),
    /// As a thread enters its n-th call that changes a disk, from 1.
    Call(usize),
}

impl Trial<'_> {
    /// Kills the command `moments` times: first at every call that changes a disk (where `strace` is installed and
    /// `every_call` is set), then at times spread over the command's own duration.
    ///
    /// # Panics
    /// When the unbroken command fails or the file system refuses.
    pub fn run(&self, moments: usize, every_call: bool) -> Tally {
        let (expected, mut took) = self.unbroken();
        let mut tally = Tally::default();
        if every_call && can_trace() {
            for call in 1..=moments {
                if !self.once(Moment::Call(call), &expected, &mut tally) {
                    break;
                }
            }
        }
        let done = tally.killed + tally.late;
        for number in done..moments {
            // Spread evenly and shifted by the golden ratio: no two trials hit the same moment.
            let part = ((number as f64 + 1.0) * 0.618_033_988_75).fract();
            if !self.once(Moment::Time(took.mul_f64(part)), &expected, &mut tally) {
                // The machine has become faster since: kills that come too late try nothing.
                took = took.mul_f64(0.7);
            }
        }
        tally
    }

    /// What an unbroken run leaves, and how long it takes.
    fn unbroken(&self) -> (BTreeMap<PathBuf, Vec<u8>>, Duration) {
        let folder = copy(self.before);
        let begun = Instant::now();
        let out = self.command(folder.path(), self.args).output().unwrap();
        assert!(out.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&out.stderr));
        (self.files(folder.path()), begun.elapsed())
    }

    /// One moment; whether the command was still running.
    fn once(&self, moment: Moment, expected: &BTreeMap<PathBuf, Vec<u8>>, tally: &mut Tally) -> bool {
        let folder = copy(self.before);
        let alive = self.kill(folder.path(), moment);
        if alive {
            tally.killed += 1;
        } else {
            tally.late += 1;
        }
        let again = (self.again)(folder.path());
        let again: Vec<&str> = again.iter().map(String::as_str).collect();
        let out = self.command(folder.path(), &again).output().unwrap();
        let mut lost = |what: String| tally.lost.push(format!("{}, {moment:?}: {what}", self.name));
        // A command that had ended may refuse to do its work again; its result counts all the same.
        if !out.status.success() && alive {
            lost(String::from_utf8_lossy(&out.stderr).lines().last().unwrap_or_default().to_owned());
            return alive;
        }
        let files = self.files(folder.path());
        match difference(expected, &files) {
            Some(path) => lost(format!("{path} differs")),
            None => tally.survived += 1,
        }
        alive
    }

    /// Starts the command and kills it; whether it was still running.
    fn kill(&self, folder: &Path, moment: Moment) -> bool {
        match moment {
            Moment::Time(after) => {
                let mut child = self.command(folder, self.args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(after);
                let running = child.try_wait().unwrap().is_none();
                // SIGKILL on Unix.
                let _ = child.kill();
                child.wait().unwrap();
                running
            }
            Moment::Call(call) => {
                let mut traced = Command::new("strace");
                traced.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={CALLS}"));
                traced.arg("-e").arg(format!("inject={CALLS}:signal=KILL:when={call}")).arg(self.program);
                let status =
                    self.prepared(traced, folder, self.args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
                !status.success()
            }
        }
    }

    fn command(&self, folder: &Path, args: &[&str]) -> Command {
        self.prepared(Command::new(self.program), folder, args)
    }

    fn prepared(&self, mut command: Command, folder: &Path, args: &[&str]) -> Command {
        command.args(args).current_dir(folder).stdin(Stdio::null());
        command.env_remove("RUST_BACKTRACE").env_remove("SAYMASK_INVOKED_AS");
        command
    }

    /// The files that count, by their paths below the folder.
    fn files(&self, folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        walk(folder, &mut |path| {
            let below = path.strip_prefix(folder).unwrap();
            if (self.kept)(below) {
                all.insert(below.to_owned(), std::fs::read(path).unwrap());
            }
        });
        all
    }
}

/// Whether this machine lets one process trace another.
#[must_use]
pub fn can_trace() -> bool {
    let mut probe = Command::new("strace");
    probe.args(["-qq", "-o", "/dev/null", "-e", "inject=write:signal=KILL:when=1", "echo", "traced"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| !status.success())
}

/// The first file that is different, or there in one of them only.
fn difference(expected: &BTreeMap<PathBuf, Vec<u8>>, files: &BTreeMap<PathBuf, Vec<u8>>) -> Option<String> {
    let names = expected.keys().chain(files.keys());
    names.filter(|name| expected.get(*name) != files.get(*name)).map(|name| name.display().to_string()).next()
}

/// A copy of a folder, its files as old as they are: some results are known by the time of what they were made from.
pub(crate) fn copy(folder: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_into(folder, to.path());
    to
}

/// Copies what is below a folder.
pub(crate) fn copy_into(folder: &Path, to: &Path) {
    walk(folder, &mut |path| {
        let target = to.join(path.strip_prefix(folder).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, &target).unwrap();
        let modified = path.metadata().and_then(|m| m.modified()).unwrap();
        std::fs::File::options().write(true).open(&target).unwrap().set_modified(modified).unwrap();
    });
}

/// Every file below a folder.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const WHOLE: &str = "rm -f x.part; for i in 1 2 3 4; do sleep 0.02; echo $i >> x.part; done; mv x.part x";
    const TORN: &str = "[ -e x ] && exit 0; for i in 1 2 3 4; do sleep 0.02; echo $i >> x; done";

    fn tally(script: &str, again: fn(&Path) -> Vec<String>) -> Tally {
        let before = tempfile::tempdir().unwrap();
        std::fs::write(before.path().join("seed"), "1").unwrap();
        let args = ["-c", script];
        let (program, before) = (Path::new("/bin/sh"), before.path());
        Trial { name: "sh", program, before, args: &args, again, kept: |path| path != Path::new("x.part") }.run(6, false)
    }

    #[test]
    fn a_writer_that_renames_survives_and_one_that_writes_in_place_does_not() {
        let whole = tally(WHOLE, |_| vec!["-c".into(), WHOLE.into()]);
        assert_eq!((whole.survived, whole.lost.len()), (6, 0), "{whole:?}");
        assert!(whole.killed > 2, "{whole:?}");
        let torn = tally(TORN, |_| vec!["-c".into(), TORN.into()]);
        assert!(torn.lost.iter().any(|lost| lost.contains("x differs")), "{torn:?}");
    }
}
