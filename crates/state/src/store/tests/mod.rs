//! Tests of the store types, and the conformance tests of backends.

mod commits;
pub(super) mod conformance;

use super::*;

#[test]
fn a_locked_store_names_its_owner_and_the_remedy() {
    let locked = StoreError::Locked { pid: Some(4121) };
    assert_eq!(locked.to_string(), "store is locked by process 4121");
    assert_eq!(locked.hint(), Some("stop the gateway first"));
    let nameless = StoreError::Locked { pid: None };
    assert_eq!(nameless.to_string(), "store is locked by another process");
}

#[test]
fn table_names_are_distinct() {
    let names: std::collections::BTreeSet<_> = Table::ALL.map(Table::name).into();
    assert_eq!(names.len(), Table::ALL.len());
}
