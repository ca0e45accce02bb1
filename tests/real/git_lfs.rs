//! Git LFS in a run: large files go where the forge's batches say, each request with the live credential.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::http;
use crate::git::{GITHUB, backend, publish};
use crate::served::{Program, Stage};
use crate::stage::{run, said};
use test_support::*;

const LFS: &str = "/me/repo.git/info/lfs";

/// Stored files by path.
type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The answer to a request of Git LFS; `None` for one of git itself.
fn answer(files: &Files, request: &Message) -> Option<Vec<u8>> {
    let path = request.head.target().strip_prefix(LFS)?;
    let json = |body: &Value| http("200 OK", "application/vnd.git-lfs+json", body.to_string());
    let mut files = files.lock().expect("not poisoned");
    Some(match (request.head.method(), path) {
        ("POST", "/objects/batch") => json(&batch(&request.json())),
        ("POST", "/locks/verify") => json(&json!({ "ours": [], "theirs": [] })),
        ("PUT", path) => {
            files.insert(path.to_owned(), request.body.clone());
            http("200 OK", "text/plain", "")
        }
        (_, path) => match files.get(path) {
            Some(file) => http("200 OK", "application/octet-stream", file),
            None => http("404 Not Found", "text/plain", ""),
        },
    })
}

/// Where the files are, with a credential of the forge's own for the transfer.
fn batch(asked: &Value) -> Value {
    let operation = asked["operation"].as_str().expect("upload or download");
    let objects = asked["objects"].as_array().expect("objects").iter().map(|object| {
        let oid = object["oid"].as_str().expect("a hash");
        let href = format!("https://github.com{LFS}/objects/{oid}");
        let action = json!({ "href": href, "header": { "Authorization": "RemoteAuth other" } });
        json!({ "oid": oid, "size": object["size"], "actions": { operation: action } })
    });
    json!({ "transfer": "basic", "objects": objects.collect::<Vec<_>>() })
}

const LINE: &str = "git lfs install --skip-repo > installed
    git clone --quiet git@github.com:me/repo.git one
    cd one
    git lfs track '*.bin' > ../tracked
    head -c 300000 /dev/zero > large.bin
    git add .
    git -c user.name=t -c user.email=t@acme.test commit --quiet -m two
    git push --quiet origin main
    cd ..
    git clone --quiet git@github.com:me/repo.git two
    cmp one/large.bin two/large.bin
    echo answer: fine";

#[tokio::test]
async fn large_files_are_pushed_and_cloned_by_git_lfs_with_ssh_urls() {
    let folder = TempDir::new().expect("a temporary directory");
    publish(folder.path());
    let (root, files) = (folder.path().to_owned(), Files::default());
    let stored = Arc::clone(&files);
    let respond = move |request: &Message| {
        answer(&stored, request).unwrap_or_else(|| backend(&root, request))
    };
    let stage = Stage::answering(&GITHUB, respond, |plan| plan).await;
    let output = run(stage.command(&Program::shell(LINE))).await;
    let stored: Vec<_> = files.lock().expect("not poisoned").values().cloned().collect();
    assert_eq!(stored, [vec![0; 300_000]], "{}", said(&output));
    let path = files.lock().expect("not poisoned").keys().next().cloned().expect("one file");
    let (refs, pack) = ("GET /me/repo.git/info/refs", "POST /me/repo.git/git-upload-pack");
    let (get, put) = (format!("GET {LFS}{path}"), format!("PUT {LFS}{path}"));
    let (batch, locks) = (format!("POST {LFS}/objects/batch"), format!("POST {LFS}/locks/verify"));
    let mut requests = vec![refs; 4];
    requests.extend([&*get, "POST /me/repo.git/git-receive-pack"]);
    requests.extend([pack; 5]);
    requests.extend([&*locks, &*batch, &*batch, &*put]);
    requests.sort_unstable();
    stage.assert_served(&output, &requests);
}
