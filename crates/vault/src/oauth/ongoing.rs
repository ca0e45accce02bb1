//! Names of running background jobs of this process, so that none is started twice.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// The running jobs.
#[derive(Clone, Debug, Default)]
pub(super) struct Ongoing(Arc<Mutex<HashSet<String>>>);

/// A job that runs until this is dropped.
#[must_use = "the work ends when it is dropped"]
pub(super) struct OngoingWork {
    all: Ongoing,
    name: String,
}

impl Ongoing {
    /// `None` if a job with this name runs.
    pub(super) fn begin(&self, name: String) -> Option<OngoingWork> {
        let is_new = self.0.lock().insert(name.clone());
        is_new.then(|| OngoingWork { all: self.clone(), name })
    }
}

impl Drop for OngoingWork {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_job_is_not_started_twice_and_may_start_again_after_its_end() {
        let ongoing = Ongoing::default();
        let first = ongoing.begin("a".to_owned());
        assert!(first.is_some() && ongoing.begin("a".to_owned()).is_none());
        assert!(ongoing.begin("b".to_owned()).is_some());
        drop(first);
        assert!(ongoing.begin("a".to_owned()).is_some());
    }
}
