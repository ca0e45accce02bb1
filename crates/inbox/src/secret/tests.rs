//! Tests of secrets that services hand over.

use super::*;
use crate::NewKeys;
use crate::tests::inbox_of;

/// Both requests were read before either secret was stored: the second one meets the first one's secret here.
#[tokio::test]
async fn the_second_of_two_senders_does_not_replace_the_secret_of_the_first() {
    let (inbox, hook) = inbox_of("notion").await;
    let scheme = inbox.scheme(&hook).unwrap();
    let (first, second) = (Secret::new("first-token"), Secret::new("second-token"));
    inbox.store_first_secret(&hook, scheme, &first).await.unwrap();
    let refused = inbox.store_first_secret(&hook, scheme, &second).await.unwrap_err();
    assert_eq!(refused.code(), "secret_known");
    inbox.store_first_secret(&hook, scheme, &first).await.unwrap();
    assert_eq!(inbox.reveal(&hook).await.unwrap(), "first-token");
}

#[tokio::test]
async fn a_secret_that_a_person_gave_is_not_shown() {
    let (inbox, hook) = inbox_of("notion").await;
    assert!(matches!(inbox.reveal(&hook).await, Err(InboxError::SecretNotSent)));
    let new = NewKeys { secret: Some(Secret::new("a-token")), ..NewKeys::default() };
    inbox.set_keys(&hook, new).await.unwrap();
    assert!(matches!(inbox.reveal(&hook).await, Err(InboxError::SecretNotShown)));
    assert!(!inbox.secret_status(&hook).await.unwrap().can_reveal);
    inbox
        .store_first_secret(&hook, inbox.scheme(&hook).unwrap(), &Secret::new("a-token"))
        .await
        .unwrap();
    assert!(matches!(inbox.reveal(&hook).await, Err(InboxError::SecretNotShown)));
}
