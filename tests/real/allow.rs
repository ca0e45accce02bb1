//! Sets of hosts, with the programs that they are for: blocked by default, and told; then allowed.

use std::sync::Arc;

use crate::api::http;
use crate::shelf::{sha256, shelf};
use crate::stage::{installed, run, said};
use crate::support::install::Install;
use crate::support::origin::serve;
use crate::support::*;

const NAMES: [&str; 2] = ["pypi.org", "files.pythonhosted.org"];

/// PyPI, with one package.
fn pypi(request: &Message) -> Vec<u8> {
    let wheel = shelf().wheel();
    let name = "fine-1.0.0-py3-none-any.whl";
    match request.head.target() {
        "/simple/fine/" => {
            let hash = sha256(wheel);
            let file = format!("https://files.pythonhosted.org/packages/{name}#sha256={hash}");
            let page =
                format!("<!DOCTYPE html><html><body><a href=\"{file}\">{name}</a></body></html>");
            http("200 OK", "text/html", page)
        }
        path if path == format!("/packages/{name}") => {
            http("200 OK", "application/octet-stream", wheel)
        }
        _ => http("404 Not Found", "text/plain", "no such thing here\n"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pip_is_blocked_with_its_remedy_and_then_downloads() {
    let origin = Origin::named(&NAMES, |stream| serve(stream, Arc::new(pypi))).await;
    let plan = NAMES
        .iter()
        .fold(Plan::api_key(), |plan, name| plan.resolve(&format!("{name}: \"{}\"", origin.addr)));
    let install = Install::new(&plan, &origin);
    let python = installed("real-venv/bin/python");
    let python = python.to_str().expect("a path of letters").to_owned();
    let pip = [
        "--",
        &python,
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-deps",
        "--retries",
        "0",
        "--dest",
        "out",
        "fine",
    ];
    let blocked = run(install.keyward(&[&["run"][..], &pip].concat())).await;
    assert!(!blocked.status.success(), "{}", said(&blocked));
    let text = said(&blocked);
    assert!(text.contains("keyward: 1 request blocked: pypi.org (keyward audit query"), "{text}");
    assert!(text.contains("keyward agent set default --allow packages"), "{text}");
    assert!(origin.received().is_empty());
    let allow = ["run", "--allow", "packages"];
    let downloaded = run(install.keyward(&[&allow[..], &pip].concat())).await;
    assert!(downloaded.status.success(), "{}", said(&downloaded));
    assert!(!said(&downloaded).contains("blocked"), "{}", said(&downloaded));
    assert!(install.folder().join("out/fine-1.0.0-py3-none-any.whl").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_and_the_output_of_curl_stay_its_own() {
    let origin = Origin::saying("fine").await;
    let install = Install::new(&Plan::api_key(), &origin);
    let url = format!("https://{STRANGER}/");
    let curl = install.keyward(&["run", "--", "curl", "-sS", "--max-time", "20", &url]);
    let output = run(curl).await;
    // curl: 56, the proxy refused the CONNECT.
    assert_eq!((output.status.code(), &*output.stdout), (Some(56), &b""[..]), "{}", said(&output));
    let text = said(&output);
    let told = format!("keyward: 1 request blocked: {STRANGER} (keyward audit query --refused)");
    assert!(text.contains(&told), "{text}");
}
