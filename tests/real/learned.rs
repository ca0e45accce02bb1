//! `keyward provider check --learn` with documents that services publish: the proposal passes `provider check`, and is
//! added for another server.

use crate::stage::{installed, run, said, succeeded};
use test_support::install::Install;
use test_support::*;

#[tokio::test(flavor = "multi_thread")]
async fn published_documents_become_providers_that_pass_the_check() {
    let install = Install::new(&Plan::api_key().no_agents(), &Origin::saying("fine"));
    for (document, lines) in [
        // JSON of 12 MiB.
        (
            "@octokit/openapi/generated/api.github.com.json",
            &[
                "hosts: [\"api.github.com\"]",
                "- name: read-actions",
                "- \"/orgs/*/actions/cache/usage\"",
            ][..],
        ),
        (
            "@figma/rest-api-spec/openapi/openapi.yaml",
            &[
                "id: \"figma-own\"",
                "hosts: [\"api.figma.com\"]",
                "placement: { header: \"X-Figma-Token\" }",
                "token: \"https://api.figma.com/v1/oauth/token\"",
                "test: { method: GET, url: \"https://api.figma.com/v1/me\", expect_status: 200 }",
            ],
        ),
    ] {
        let path = installed(&format!("real-node/node_modules/{document}"));
        let path = path.to_str().expect("a path").to_owned();
        let output = succeeded(install.keyward(&["provider", "check", "--learn", &path])).await;
        let text = String::from_utf8(output.stdout).expect("text");
        for line in lines {
            assert!(text.lines().any(|it| it.trim() == *line), "{line}: {text}");
        }
        let file = install.folder().join("learned.yaml");
        std::fs::write(&file, &text).expect("a file");
        let file = file.to_str().expect("a path");
        succeeded(install.keyward(&["provider", "check", file])).await;
        let added = run(install.keyward(&["provider", "add", file])).await;
        assert!(said(&added).contains("belongs to provider"), "{}", said(&added));
        // The same API at a server of one's own.
        let own = text.replace("api.github.com", "api.github.acme.test");
        std::fs::write(file, own.replace("api.figma.com", "api.figma.acme.test")).expect("a file");
        succeeded(install.keyward(&["provider", "add", file])).await;
    }
}
