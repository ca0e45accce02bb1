//! The upgrade test of stored consents and revocations; examples and rules are those of [`crate::tests::golden`].

use super::flow::{Flow, FormPost, PendingRevocation, Pointer};
use crate::tests::golden::{assert_none, changed};
use keyward_state::store::Table;

#[tokio::test]
async fn consents_of_earlier_versions_are_read_and_written_unchanged() {
    assert_none(&changed::<Flow>(Table::Flows, include_str!("../tests/golden/flows.json")).await);
    assert_none(
        &changed::<Pointer>(Table::Flows, include_str!("../tests/golden/flows_pointer.json")).await,
    );
    assert_none(
        &changed::<FormPost>(Table::Flows, include_str!("../tests/golden/flows_posted.json")).await,
    );
}

#[tokio::test]
async fn pending_revocations_of_earlier_versions_are_read_and_written_unchanged() {
    assert_none(
        &changed::<PendingRevocation>(Table::Outbox, include_str!("../tests/golden/outbox.json"))
            .await,
    );
}
