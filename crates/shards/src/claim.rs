//! Claims: which worker has a shard, by a file that only one can create and that expires.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use crate::ShardError;
use crate::output::hex;

/// A shard that is this worker's, until it is dropped or expires.
///
/// Claims save work, no more: results are renamed as a whole, so that two workers on one shard, as a clock or a network file system may
/// bring about, write the same file twice.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    owner: String,
    expiry: Duration,
    renewed: Instant,
}

impl Claim {
    /// Claims the shard with this stem in `folder`; none if another worker has it. A claim that was not renewed for `expiry` is taken
    /// over, one of a process of this machine that is gone at once.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn take(folder: &Path, stem: &str, expiry: Duration) -> Result<Option<Self>, ShardError> {
        let path = folder.join(format!(".{stem}.claim"));
        let owner = owner();
        // A second time where an expired claim was removed.
        for _ in 0..2 {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(owner.as_bytes()).map_err(ShardError::io(&path, "write"))?;
                    return Ok(Some(Self { path, owner, expiry, renewed: Instant::now() }));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if !remove_expired(folder, &path, &owner, expiry)? {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(ShardError::io(&path, "create")(error)),
            }
        }
        Ok(None)
    }

    /// Says that the work goes on; called often, it writes a few times per expiry. False if the claim was lost, so that the work should
    /// be given up.
    pub fn renew(&mut self) -> bool {
        if self.renewed.elapsed() < self.expiry / 4 {
            return true;
        }
        self.renewed = Instant::now();
        self.is_ours() && fs::write(&self.path, &self.owner).is_ok()
    }

    /// Whether no other worker has taken the shard over; reads the claim.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        fs::read(&self.path).is_ok_and(|owner| owner == self.owner.as_bytes())
    }

    /// A name that no other claim has, on this machine or another, of letters and digits.
    #[must_use]
    pub fn worker(&self) -> String {
        short(&self.owner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// An owner's name as a part of file names.
fn short(owner: &str) -> String {
    hex(Sha256::new_with_prefix(owner)).chars().take(16).collect()
}

/// A name that no other claim has: machine, process and number.
fn owner() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("{} {} {nanoseconds} {}", machine(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The machine's name, and the number of its start: containers share the first, machines of one image both files' absence.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().replace(' ', "-");
    let parts = [read("/proc/sys/kernel/hostname"), read("/proc/sys/kernel/random/boot_id")];
    // The process space: numbers of another container's processes mean nothing here.
    let space = fs::read_link("/proc/self/ns/pid").map_or_else(|_| String::new(), |link| link.to_string_lossy().into_owned());
    format!("{}/{}/{space}", parts[0], parts[1])
}

/// Whether a claim's owner was a process of this machine that is gone.
fn is_gone(owner: &str) -> bool {
    let mut words = owner.split(' ');
    let (of, process) = (words.next(), words.next().and_then(|p| p.parse::<u32>().ok()));
    let Some(process) = process.filter(|_| of == Some(machine().as_str())) else { return false };
    Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{process}")).exists()
}

/// Removes a claim that has expired; false if it is somebody's.
fn remove_expired(folder: &Path, path: &Path, me: &str, expiry: Duration) -> Result<bool, ShardError> {
    let (meta, owner) = match fs::metadata(path).and_then(|meta| Ok((meta, fs::read_to_string(path)?))) {
        Ok(found) => found,
        // Gone meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(ShardError::io(path, "read")(error)),
    };
    let tag = short(me);
    let probe = folder.join(format!(".{tag}.clock"));
    // The file system's own clock, which is not always this machine's.
    let written = File::create(&probe).and_then(|file| file.metadata()).and_then(|meta| meta.modified());
    let _ = fs::remove_file(&probe);
    let now = written.map_err(ShardError::io(&probe, "create"))?;
    let age = meta.modified().ok().and_then(|then| now.duration_since(then).ok()).unwrap_or_default();
    if age <= expiry && !is_gone(&owner) {
        return Ok(false);
    }
    // Of several workers that see it expired, one renames it.
    let expired = folder.join(format!(".{tag}.expired"));
    if fs::rename(path, &expired).is_err() {
        return Ok(true);
    }
    let taken = fs::read_to_string(&expired).unwrap_or_default();
    if taken != owner {
        // Another worker had taken it over between our look and our rename: given back, unless a third has come.
        let _ = fs::hard_link(&expired, path);
        let _ = fs::remove_file(&expired);
        return Ok(false);
    }
    let _ = fs::remove_file(&expired);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn one_worker_has_a_shard() {
        let folder = tempfile::tempdir().unwrap();
        let take = |stem: &str| Claim::take(folder.path(), stem, LONG).unwrap();
        let mut first = take("a").unwrap();
        let other = take("b").unwrap();
        assert!(take("a").is_none() && first.renew() && first.is_ours());
        assert!(first.worker() != other.worker() && first.worker().len() == 16);
        drop((first, other));
        assert!(take("a").is_some());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Claim::take(&folder.path().join("nowhere"), "a", LONG).is_err());
        // A claim that cannot be read is nobody's to take over.
        fs::create_dir(folder.path().join(".c.claim")).unwrap();
        assert!(Claim::take(folder.path(), "c", LONG).unwrap_err().to_string().contains(".c.claim: cannot read"));
    }

    #[test]
    fn an_expired_claim_is_taken_over_and_its_owner_notices() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Claim::take(folder.path(), "a", LONG).unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let second = Claim::take(folder.path(), "a", Duration::from_millis(10)).unwrap().unwrap();
        assert!(!first.is_ours());
        first.expiry = Duration::ZERO;
        assert!(!first.renew());
        drop(first);
        assert!(second.is_ours());
    }

    #[test]
    fn a_claim_of_a_dead_process_is_taken_over_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".a.claim");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = child.id();
        child.wait().unwrap();
        fs::write(&path, format!("{} {process} 0 0", machine())).unwrap();
        assert_eq!(Path::new("/proc/self").exists(), Claim::take(folder.path(), "a", LONG).unwrap().is_some());
        fs::write(&path, format!("elsewhere {process} 0 0")).unwrap();
        assert!(Claim::take(folder.path(), "a", LONG).unwrap().is_none());
    }

    #[test]
    fn of_many_workers_one_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let stem = round.to_string();
            let path = folder.path().join(format!(".{stem}.claim"));
            fs::write(&path, "elsewhere 1 0 0").unwrap();
            // Long ago, so that none of the new claims expires while others look.
            File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - 2 * LONG).unwrap();
            let claims: Vec<Claim> = std::thread::scope(|scope| {
                let take = || Claim::take(folder.path(), &stem, LONG).unwrap();
                let workers: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
                workers.into_iter().filter_map(|worker| worker.join().unwrap()).collect()
            });
            // Asked when all are done: a claim may be renamed away and given back meanwhile.
            assert_eq!(claims.iter().filter(|claim| claim.is_ours()).count(), 1, "round {round}");
        }
    }
}
