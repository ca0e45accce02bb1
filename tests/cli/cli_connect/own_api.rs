//! `keyward connect https://…`: an API that no provider has.

use std::sync::atomic::Ordering;

use super::Desk;
use test_support::finished::Finished;

const URL: &str = "https://other.acme.test/me";

impl Desk {
    /// Own providers of the store.
    fn own(&self) -> Vec<String> {
        let all =
            self.install.json(&["provider", "list"])["items"].as_array().expect("a list").clone();
        let stored = all.iter().filter(|it| it["managed_by"] == "store");
        stored.map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_cannot_be_connected_is_refused_before_anything_is_stored() {
    let desk = Desk::new().await;
    for (arguments, code, says) in [
        (&["http://other.acme.test/me", "--bearer"][..], 2, "http:// is not encrypted"),
        (&["https://a:b@other.acme.test/", "--bearer"], 2, "a user name or a password"),
        (&["https:///me", "--bearer"], 2, "the host of the URL is invalid"),
        (&[URL], 2, "how the API expects its key is missing\nhint: --bearer, --header NAME"),
        (&[URL, "--bearer", "--basic"], 2, "cannot be used with"),
        (&[URL, "--bearer", "--auth", "x"], 2, "--auth selects an auth method of a known"),
        (&["acme", "--bearer"], 2, "--bearer, --header, --query and --basic describe a URL"),
        (&[URL, "--header", "X-Key: v"], 2, "cannot be the name of a header field"),
        (&["https://other.acme.test/?k=v", "--query", "k"], 2, "the parameter `k` already"),
        (
            &["https://api.github.com/user", "--bearer", "--secret-stdin"],
            1,
            "api.github.com belongs to provider `github` (GitHub)\nhint: connect an account there: \
             keyward connect github",
        ),
        (
            &["https://api.acme.test/me", "--bearer", "--secret-stdin"],
            1,
            "api.acme.test belongs to your provider `acme`\nhint: keyward connect acme --auth key",
        ),
        (&[URL, "--bearer"], 2, "field `token` (Token) is missing"),
    ] {
        let Finished { code: ended, err, .. } = desk.piped(arguments, desk.secret());
        assert_eq!(ended, code, "{arguments:?}: {err}");
        assert!(err.to_lowercase().contains(&says.to_lowercase()), "{arguments:?}: {err}");
    }
    desk.assert_nothing_is_left();
    assert_eq!(desk.own(), [""; 0]);
    assert_eq!(desk.origin.streams(), 0);
}

/// `show --yaml`, an edit of the file, `set`: and the connection has what was missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_a_provider_is_printed_and_changed_while_a_connection_uses_it() {
    let desk = Desk::new().await;
    let Finished { code, err, .. } =
        desk.piped(&[URL, "--bearer", "--secret-stdin"], desk.secret());
    assert_eq!(code, 0, "{err}");
    let run = |arguments: &[&str]| {
        let output = desk.install.keyward(arguments).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let id = "other-acme-test";
    let (_, file, err) = run(&["provider", "show", id, "--yaml"]);
    assert!(file.starts_with("id: other-acme-test\nname: other.acme.test\n"), "{file}{err}");
    let path = desk.install.folder().join("corp.yaml");
    let at = path.to_str().expect("a path");
    for (text, code, says) in [
        (file.replace("name: other.acme.test", "name: Corp"), 0, ""),
        (
            file.replace("- other.acme.test", "- other.acme.test\n- third.acme.test"),
            1,
            "`hosts` of provider `other-acme-test` cannot change while connection",
        ),
        (file.replace("id: other-acme-test", "id: nope"), 5, "no provider is named `nope`"),
        (file.replace("kind: bearer", "kind: baerer"), 1, "did you mean `bearer`?"),
    ] {
        assert_ne!(text, file);
        std::fs::write(&path, &text).expect("a file");
        let (ended, out, err) = run(&["provider", "set", at]);
        assert_eq!(ended, Some(code), "{out}{err}");
        assert!(
            err.contains(says) && (code != 0 || out == "provider other-acme-test changed\n"),
            "{out}{err}"
        );
    }
    assert_eq!(desk.install.json(&["provider", "show", id])["name"], "Corp");
    let (connections, _) = desk.names();
    let (code, _, err) = run(&["connection", "remove", &connections[0], "--yes"]);
    assert!(code == Some(0) && err.contains("keyward provider remove other-acme-test"), "{err}");
    // One of the catalogue, with its comments; it is what a file may be.
    let (_, github, _) = run(&["provider", "show", "github", "--yaml"]);
    assert!(github.contains("\nid: github\n") && github.starts_with("# https://"), "{github}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_api_rejects_leaves_neither_connection_nor_provider() {
    let desk = Desk::new().await;
    for status in [401, 403] {
        desk.status.store(status, Ordering::SeqCst);
        let Finished { code, err, .. } =
            desk.piped(&[URL, "--bearer", "--secret-stdin"], desk.secret());
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(&format!("({status})\nhint: ")), "{err}");
        assert!(err.contains("nothing was stored"), "{err}");
    }
    desk.assert_nothing_is_left();
    assert_eq!(desk.own(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_address_is_refused_with_the_setting_that_permits_it() {
    let desk = Desk::new().await;
    let url = "https://127.0.0.1:1/me";
    let Finished { code, err, .. } =
        desk.piped(&[url, "--bearer", "--secret-stdin"], desk.secret());
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("may not be dialled") && err.contains("`upstream.allow_private`"),
        "{err}"
    );
    assert_eq!(desk.own(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_connect_a_url_and_a_second_account_uses_the_same_provider() {
    let desk = Desk::new().await;
    desk.status.store(404, Ordering::SeqCst);
    let stdin = [URL, "--header", "X-Corp", "--secret-stdin", "--agent", "claude"];
    let Finished { code, out, err } = desk.piped(&stdin, desk.secret());
    assert_eq!(code, 0, "{err}");
    for line in [
        "connection other-acme-test added (con_",
        "other.acme.test did not reject the key (404 to `GET https://other.acme.test/me`, ",
        "agent claude (created) may use it\n",
        "its programs find a placeholder in OTHER_ACME_TEST_KEY\n",
        "run --agent claude -- curl https://other.acme.test/me\n",
    ] {
        assert!(out.contains(line), "{out}");
    }
    let received = desk.origin.only().head;
    assert_eq!((received.target(), &received.all("x-corp")[..]), ("/me", &[desk.secret()][..]));
    let second = [&stdin[..4], &["--name", "second"]].concat();
    let Finished { code, err, .. } = desk.piped(&second, desk.secret());
    assert_eq!(code, 0, "{err}");
    assert_eq!(desk.own(), ["other-acme-test"]);
    let Finished { code, err, .. } =
        desk.piped(&[URL, "--bearer", "--secret-stdin"], desk.secret());
    assert!(code == 1 && err.contains("belongs to your provider `other-acme-test`"), "{err}");
}
