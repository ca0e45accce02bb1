//! Tests of the audit log over several files, and test data.

mod printing;
mod rotation;
pub(super) mod samples;
