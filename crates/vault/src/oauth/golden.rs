//! The upgrade test of consents and revocations under way; the examples and their rules are those of
//! [`crate::golden`].

use super::Pointer;
use super::flow::Flow;
use super::posted::Posted;
use super::revoke::Owed;
use crate::golden::{assert_none, changed};
use keyward_state::store::Table;

#[tokio::test]
async fn consents_of_earlier_versions_are_read_and_written_unchanged() {
    assert_none(&changed::<Flow>(Table::Flows, include_str!("../golden/flows.json")).await);
    assert_none(
        &changed::<Pointer>(Table::Flows, include_str!("../golden/flows_pointer.json")).await,
    );
    assert_none(
        &changed::<Posted>(Table::Flows, include_str!("../golden/flows_posted.json")).await,
    );
}

#[tokio::test]
async fn revocations_that_earlier_versions_owe_are_read_and_written_unchanged() {
    assert_none(&changed::<Owed>(Table::Outbox, include_str!("../golden/outbox.json")).await);
}
