//! Searches and verifications of the audit log at the same time.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn searches_of_the_audit_log_and_its_verifications_do_not_wait_for_each_other() {
    let lab = Lab::new().await;
    let log = lab.admin.deps().audit.clone();
    let (search, verify) = ("/api/v1/audit", "/api/v1/audit/verify");
    let all = |turns: &Arc<Semaphore>| {
        let count = u32::try_from(turns.available_permits()).unwrap();
        turns.clone().try_acquire_many_owned(count).unwrap()
    };
    let verifying = all(&log.verifications);
    let mut waiting = pin!(lab.get(verify));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("as many verifications run as may"),
        (status, found) = lab.get(search) => assert_eq!(status, StatusCode::OK, "{found}"),
    }
    drop(verifying);
    assert_eq!(waiting.await.0, StatusCode::OK);
    let _searching = all(&log.searches);
    assert_eq!(lab.get(verify).await.0, StatusCode::OK);
}
