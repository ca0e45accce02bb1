//! The result of a call of the database library on its own thread.

use std::path::Path;

use crate::store::StoreError;
use keyward_base::threads::WorkPanicked;

/// sled panics on some damage; the panic fails this call only.
pub(super) fn finished<T>(
    path: &Path,
    done: Result<Result<T, StoreError>, WorkPanicked>,
) -> Result<T, StoreError> {
    done.unwrap_or_else(|WorkPanicked| {
        let what = "the database library gave up".to_owned();
        Err(StoreError::Damaged { path: path.into(), what })
    })
}
