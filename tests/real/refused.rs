//! Refused uploads: the program reads the answer although it still sends. curl uses HTTP/2 to the gateway.

use std::process::Output;

use crate::stage::*;
use test_support::*;

/// A host of the catalogue: it is refused inside TLS.
const DENIED: &str = "https://api.openai.com/v1/x";

/// Runs `script` and gives a line per upload: status, HTTP version, curl's exit code, and what it says of the answer.
async fn uploaded(script: &str) -> (Lab, Vec<String>) {
    let lab = lab().await;
    let mut shell = program(&lab, "bash");
    shell.args(["-c", script]).env("DENIED", DENIED);
    let Output { stdout, stderr, .. } = run(shell).await;
    let lines: Vec<_> = String::from_utf8_lossy(&stdout).lines().map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (lab, lines)
}

/// Every one of `count` uploads was answered, and the answer was read whole.
async fn all_are_answered(script: &str, count: usize) {
    const READ: &str = "403 over 2, exit 0: no rule or binding allows this host";
    let (lab, lines) = uploaded(script).await;
    let lost: Vec<_> = lines.iter().filter(|line| **line != READ).collect();
    assert_eq!((lines.len(), lost), (count, vec![]));
    assert!(lab.origin.received().is_empty());
    let records = lab.finish().await;
    assert_eq!(records.len(), count);
    for record in records {
        assert_eq!((&record["status"], &record["outcome"]), (&403.into(), &"refused".into()));
    }
}

/// `upload ARGUMENTS…`: one line. What curl waits for in vain for 20 s counts as lost.
const UPLOAD: &str = r#"
upload() {
    answer=$(curl --silent --max-time 20 --write-out '\n%{http_code} over %{http_version}, exit %{exitcode}' "$@" "$DENIED")
    printf '%s: %s\n' "${answer##*$'\n'}" "$(sed -n 's/^{"message":"\([^"]*\)".*/\1/p' <<< "$answer")"
}
"#;

#[tokio::test]
async fn curl_reads_the_refusal_of_every_small_upload() {
    let script = format!("{UPLOAD} for each in {{1..40}}; do upload --data a=b; done");
    all_are_answered(&script, 40).await;
}

#[tokio::test]
async fn curl_reads_the_refusal_of_every_large_upload() {
    // Up to, around and beyond what is discarded.
    let script = format!(
        "{UPLOAD} for bytes in 60000 300000 1000000 1100000 20000000; do
             head -c $bytes /dev/zero > upload
             for each in {{1..6}}; do upload --data-binary @upload; done
         done"
    );
    all_are_answered(&script, 30).await;
}

#[tokio::test]
async fn curl_reads_the_refusal_of_every_upload_of_unknown_length() {
    let script = format!(
        "{UPLOAD} for bytes in 10 500000 20000000; do
             for each in {{1..6}}; do upload --upload-file - < <(head -c $bytes /dev/zero); done
         done
         # One that takes longer than the gateway reads on.
         upload --upload-file - < <(echo a; sleep 2; echo b)"
    );
    all_are_answered(&script, 19).await;
}

#[tokio::test]
async fn gh_prints_why_it_is_refused() {
    let lab = lab().await;
    let mut gh = program(&lab, "gh");
    gh.args(["api", "user"]).env("GH_TOKEN", "none").env("GH_NO_UPDATE_NOTIFIER", "1");
    let output = run(gh).await;
    assert!(!output.status.success());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed.trim(), "gh: no rule or binding allows this host (HTTP 403)");
    lab.finish().await;
}
