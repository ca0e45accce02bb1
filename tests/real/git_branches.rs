//! Rules with branches, as git meets them: a push to another branch reaches no server, and git shows why.

use crate::git_over_https::Forge;
use crate::stage::said;

const OWN: &str =
    "{ name: own, agents: [ci], use: live, actions: [clone, push], branches: ['agent/*'] }";

/// A clone with one more commit.
const CHANGE: &str = "git clone --quiet git@github.com:me/repo.git cloned
    cd cloned
    git config user.email t@acme.test
    git commit --quiet --allow-empty -m two";

#[tokio::test]
async fn a_push_to_a_permitted_branch_arrives_and_one_to_another_does_not() {
    let forge = Forge::new(|plan| plan.rule(OWN)).await;
    let before = forge.branches();
    // One alone, one beside an own branch, a tag, and a deletion: git sends each as one push.
    for refused in ["main", "HEAD:agent/a main", "HEAD:refs/tags/v1", "HEAD:refs/heads/agent/a/b"] {
        let output =
            forge.run(&format!("rm -rf cloned\n{CHANGE}\ngit push origin {refused}")).await;
        let said = said(&output);
        assert!(!output.status.success() && said.contains("[remote rejected]"), "{said}");
        assert!(said.contains("rule `file:own` allows pushes to agent/* only"), "{said}");
    }
    assert_eq!(forge.pushes(), [b""; 0]);
    assert_eq!(forge.branches(), before);
    let output = forge.run(&format!("rm -rf cloned\n{CHANGE}\ngit push origin HEAD:agent/a")).await;
    assert!(output.status.success(), "{}", said(&output));
    let after = forge.branches();
    assert_eq!((after.len(), forge.pushes().len()), (before.len() + 1, 1));
    assert!(after[0].starts_with("refs/heads/agent/a "), "{after:?}");
    let output = forge.run("cd cloned\ngit push origin :agent/a").await;
    let said = said(&output);
    assert!(!output.status.success() && said.contains("would delete `agent/a`"), "{said}");
    assert_eq!(forge.branches(), after);
}

#[tokio::test]
async fn a_large_push_is_judged_before_its_pack_is_forwarded() {
    let forge = Forge::new(|plan| plan.rule(OWN)).await;
    let before = forge.branches();
    // Larger than git's buffer: it sends an empty push first, and then chunks.
    let large = format!(
        "{CHANGE}
        head -c 3000000 /dev/urandom > large
        git add large
        git commit --quiet -m large"
    );
    let output = forge.run(&format!("{large}\ngit push origin main")).await;
    let text = said(&output);
    assert!(!output.status.success() && text.contains("would push to `main`"), "{text}");
    assert_eq!(forge.pushes(), [b"0000"], "only the empty push arrived");
    assert_eq!(forge.branches(), before);
    let output = forge.run("cd cloned\ngit push origin HEAD:agent/large").await;
    assert!(output.status.success(), "{}", said(&output));
    let pushed = forge.pushes();
    assert!(pushed.len() == 3 && pushed[2].len() > 3_000_000, "{}", pushed.len());
    assert_eq!(forge.branches().len(), before.len() + 1);
}

#[tokio::test]
async fn a_rule_that_denies_main_permits_pushes_to_other_branches() {
    const NO_MAIN: &str = "{ name: no-main, branches: [main], action: deny }";
    let forge = Forge::new(|plan| plan.rule(NO_MAIN)).await;
    let before = forge.branches();
    let output = forge.run(&format!("{CHANGE}\ngit push origin main HEAD:other")).await;
    let text = said(&output);
    assert!(!output.status.success() && text.contains("rule `file:no-main` denies this"), "{text}");
    assert_eq!((forge.branches(), forge.pushes().len()), (before.clone(), 0));
    let output = forge.run("cd cloned\ngit push origin HEAD:other && git push origin :other").await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!((forge.branches(), forge.pushes().len()), (before, 2));
}
