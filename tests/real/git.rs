//! git over HTTPS: it sends no credential before it is asked, and is never asked.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::stage::*;
use crate::support::*;

#[tokio::test]
async fn a_private_repository_is_cloned() {
    let folder = tempfile::TempDir::new().expect("a temporary directory");
    let plan = Plan::new(
        "{ id: pat, kind: basic }",
        "{ username: { env: SOMEONE }, password: { env: CANARY } }",
    )
    .variable("SOMEONE", "x-access-token");
    let pair = BASE64_STANDARD.encode(format!("x-access-token:{}", plan.canary().text));
    let authorization = format!("Basic {pair}");
    let root = folder.path().to_owned();
    let origin = Origin::answering(move |request: &Message| {
        match request.head.all("authorization")[..] == [&*authorization] {
            true => file(&root, request.head.target()),
            false => {
                b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
                    .to_vec()
            }
        }
    });
    let lab = plan.start(origin.await).await;
    publish(&lab, folder.path()).await;

    let mut clone = program(&lab, "git");
    clone.args(["clone", "https://api.acme.test/repo.git", "cloned"]);
    let output = run(clone).await;
    assert!(output.status.success(), "{}", said(&output));
    let readme = lab.gateway.folder().join("cloned/README");
    assert_eq!(std::fs::read_to_string(readme).expect("cloned"), "hello\n");
    lab.canary.assert_absent("what git said", said(&output).as_bytes());
    lab.canary.assert_absent_below(&lab.gateway.folder().join("cloned"));
    let received = lab.origin.received();
    assert!(received.len() > 3, "refs and objects: {}", received.len());
    for request in received {
        assert_eq!(request.head.all("authorization").len(), 1, "{:?}", request.head);
    }
    lab.finish().await;
}

/// Makes `repo.git`, with one commit, ready for the dumb protocol.
async fn publish(lab: &Lab, folder: &Path) {
    let work = folder.join("work");
    std::fs::create_dir(&work).expect("a directory");
    std::fs::write(work.join("README"), "hello\n").expect("a file");
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "README"],
        &["-c", "user.name=t", "-c", "user.email=t@acme.test", "commit", "--quiet", "-m", "one"],
        &["clone", "--quiet", "--bare", ".", "../repo.git"],
        &["--git-dir=../repo.git", "update-server-info"],
    ] {
        let mut git = program(lab, "git");
        git.args(arguments).current_dir(&work);
        let output = run(git).await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
}

fn file(root: &Path, target: &str) -> Vec<u8> {
    let path = target.split('?').next().unwrap_or_default().trim_start_matches('/');
    match std::fs::read(root.join(path)) {
        Ok(bytes) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                bytes.len()
            );
            [head.into_bytes(), bytes].concat()
        }
        Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    }
}
