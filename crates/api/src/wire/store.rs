//! The JSON of a check of the store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_state::directory::StoreCheck;

pub use keyward_state::directory::{FaultKind as StoreFaultKind, StoreFault as StoreFaultView};

/// Faults that an answer lists.
const FAULTS_MAX: usize = 1_000;

/// What a check of all rows and indexes found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct StoreCheckView {
    /// The number of rows.
    pub rows: usize,
    /// What is wrong, leftovers last.
    pub faults: Vec<StoreFaultView>,
    /// The number of further faults, which are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

impl StoreCheckView {
    /// The number of faults, without leftovers.
    pub fn fault_count(&self) -> usize {
        let faults = self.faults.iter().filter(|it| it.kind != StoreFaultKind::Leftover).count();
        // Leftovers are the last: with one in the list, the rest is of them.
        faults + if faults == self.faults.len() { self.more } else { 0 }
    }

    /// The number of leftovers that are listed.
    pub fn leftover_count(&self) -> usize {
        self.faults.iter().filter(|it| it.kind == StoreFaultKind::Leftover).count()
    }
}

impl From<StoreCheck> for StoreCheckView {
    fn from(check: StoreCheck) -> Self {
        let mut faults = check.faults;
        faults.sort_by_key(|fault| fault.kind == StoreFaultKind::Leftover);
        let more = faults.len().saturating_sub(FAULTS_MAX);
        faults.truncate(FAULTS_MAX);
        Self { rows: check.rows, faults, more }
    }
}

fn is_zero(more: &usize) -> bool {
    *more == 0
}
