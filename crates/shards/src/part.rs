//! Which shards are a worker's: `2/8`, or what the scheduler says.

use crate::ShardError;

/// One of several parts of equal size, but for one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// Schedulers' variables: the number of a worker, the least such number, how many there are.
const SCHEDULERS: [(&str, Option<&str>, &str); 5] = [
    ("SLURM_ARRAY_TASK_ID", Some("SLURM_ARRAY_TASK_MIN"), "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", None, "JOB_COMPLETIONS"),
    ("OMPI_COMM_WORLD_RANK", None, "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", None, "SLURM_NTASKS"),
    ("RANK", None, "WORLD_SIZE"),
];

impl Part {
    /// `i/n`, i from 0 to n - 1.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, ShardError> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err(ShardError::Part { found: text.into(), what: "must be i/n with i from 0 to n - 1, such as 0/4".into() }),
        }
    }

    /// The part that a scheduler's variables name, with the variable; none where there are no such variables. `get` reads one.
    ///
    /// In order: a Slurm array (SLURM_ARRAY_TASK_ID, from SLURM_ARRAY_TASK_MIN, of SLURM_ARRAY_TASK_COUNT), a Kubernetes Indexed Job
    /// (JOB_COMPLETION_INDEX; Kubernetes does not say how many there are, so the job's file must, as JOB_COMPLETIONS), Open MPI, a Slurm
    /// step, and RANK of WORLD_SIZE. A Slurm array with steps of more than 1 is not understood.
    ///
    /// # Errors
    /// A number without its count, or beyond it.
    pub fn from_scheduler(get: impl Fn(&str) -> Option<String>) -> Result<Option<(Self, &'static str)>, ShardError> {
        for (number, least, count) in SCHEDULERS {
            let Some(text) = get(number) else { continue };
            let wrong = |what: String| ShardError::Part { found: format!("{number}={text}"), what };
            let Some(of) = get(count) else { return Err(wrong(format!("{count} must say how many there are"))) };
            let parse = |text: &str| text.trim().parse::<usize>().ok();
            let first = least.and_then(&get).map_or(Some(0), |text| parse(&text));
            let index = parse(&text).zip(first).and_then(|(number, first)| number.checked_sub(first));
            return match index.zip(parse(&of)) {
                Some((index, count)) if index < count => Ok(Some((Self { index, count }, number))),
                _ => Err(wrong(format!("does not go with {count}={of}"))),
            };
        }
        Ok(None)
    }

    /// Its shards: every `count`-th, from `index` on, so that shards which grow with their number are spread.
    pub fn of<T: Clone>(self, shards: &[T]) -> Vec<T> {
        shards.iter().skip(self.index).step_by(self.count.max(1)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(variables: &[(&str, &str)]) -> Result<Option<(Part, &'static str)>, ShardError> {
        Part::from_scheduler(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn parts_are_all_shards_once() {
        let shards: Vec<usize> = (0..11).collect();
        let mut all: Vec<usize> = (0..4).flat_map(|index| Part { index, count: 4 }.of(&shards)).collect();
        all.sort_unstable();
        assert_eq!(all, shards);
        assert_eq!(Part::parse(" 3/4").unwrap(), Part { index: 3, count: 4 });
        for wrong in ["4/4", "1", "a/b", "0/0", "-1/2"] {
            assert!(Part::parse(wrong).unwrap_err().to_string().contains("0 to n - 1"), "{wrong}");
        }
    }

    #[test]
    fn schedulers() {
        let part = |index, count| Part { index, count };
        assert_eq!(auto(&[]).unwrap(), None);
        let array = [("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "4"), ("RANK", "9")];
        assert_eq!(auto(&array).unwrap(), Some((part(2, 4), "SLURM_ARRAY_TASK_ID")));
        let kubernetes = [("JOB_COMPLETION_INDEX", "0"), ("JOB_COMPLETIONS", "2")];
        assert_eq!(auto(&kubernetes).unwrap(), Some((part(0, 2), "JOB_COMPLETION_INDEX")));
        let mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert_eq!(auto(&mpi).unwrap(), Some((part(1, 2), "OMPI_COMM_WORLD_RANK")));
        assert_eq!(auto(&[("RANK", "1"), ("WORLD_SIZE", "2")]).unwrap(), Some((part(1, 2), "RANK")));
        assert!(auto(&kubernetes[..1]).unwrap_err().to_string().contains("JOB_COMPLETIONS must say"));
        assert!(auto(&[("RANK", "2"), ("WORLD_SIZE", "2")]).unwrap_err().to_string().contains("WORLD_SIZE=2"));
        assert!(auto(&[("RANK", "x"), ("WORLD_SIZE", "2")]).is_err());
    }
}
