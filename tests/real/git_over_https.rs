//! git in a run: SSH URLs of a forge go by HTTPS, where the credential is injected, and a rule may allow clones alone.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::git::{GITHUB, backend, publish};
use crate::served::{Program, Service, Stage, Takes};
use crate::stage::*;
use test_support::*;

/// A forge whose repositories name each other by SSH URLs, and a user whose agent `ci` is bound to it.
pub(crate) struct Forge {
    pub(crate) stage: Stage,
    folder: TempDir,
}

impl Forge {
    pub(crate) async fn new(more: impl FnOnce(Plan) -> Plan) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        publish(folder.path());
        publish_whole(folder.path());
        let root = folder.path().to_owned();
        let stage = Stage::answering(&GITHUB, move |request| backend(&root, request), more).await;
        Self { stage, folder }
    }

    /// A line of the shell in a run.
    pub(crate) async fn run(&self, line: &str) -> Output {
        let mut command = self.stage.command(&Program::shell(line));
        // An inherited entry of git's configuration stays.
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", "user.name").env("GIT_CONFIG_VALUE_0", "inherited");
        run(command).await
    }

    /// The commit of `me/repo.git`.
    fn head(&self) -> String {
        git(self.folder.path(), &["--git-dir=me/repo.git", "rev-parse", "main"])
    }

    /// The branches of `me/repo.git` with their commits.
    pub(crate) fn branches(&self) -> Vec<String> {
        let format = "--format=%(refname) %(objectname)";
        let all = git(self.folder.path(), &["--git-dir=me/repo.git", "for-each-ref", format]);
        all.lines().map(str::to_owned).collect()
    }

    /// The bodies of pushes that arrived.
    pub(crate) fn pushes(&self) -> Vec<Vec<u8>> {
        let received = self.stage.origin.received().into_iter();
        let is_push = |request: &Message| {
            request.head.method() == "POST" && request.head.target().ends_with("git-receive-pack")
        };
        received.filter(is_push).map(|request| request.body.clone()).collect()
    }
}

/// Makes `me/whole.git`, with `me/repo.git` as a submodule by its SSH URL.
fn publish_whole(root: &Path) {
    let work = root.join("whole");
    std::fs::create_dir(&work).expect("a directory");
    let commit = git(root, &["--git-dir=me/repo.git", "rev-parse", "main"]);
    let modules = "[submodule \"part\"]\n\tpath = part\n\turl = git@github.com:me/repo.git\n";
    std::fs::write(work.join(".gitmodules"), modules).expect("a file");
    let entry = format!("160000,{commit},part");
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", ".gitmodules"],
        &["update-index", "--add", "--cacheinfo", &entry],
        &["-c", "user.name=t", "-c", "user.email=t@acme.test", "commit", "--quiet", "-m", "one"],
        &["clone", "--quiet", "--bare", ".", "../me/whole.git"],
    ] {
        git(&work, arguments);
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder);
    let output = git.args(arguments).output().expect("git is installed");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn ssh_urls_and_submodules_are_cloned_and_fetched_over_https() {
    let forge = Forge::new(|plan| plan).await;
    let line = "git clone --quiet git@github.com:me/repo.git one
        git clone --quiet ssh://git@github.com/me/repo.git two
        git clone --quiet ssh://git@github.com:22/me/repo.git three
        git clone --quiet --recurse-submodules git@github.com:me/whole.git whole
        git -C one fetch --quiet
        git -C one remote get-url origin
        git config user.name
        sed 's/hello/answer: fine/' whole/part/README";
    let output = forge.run(line).await;
    let said = said(&output);
    assert!(said.contains("https://github.com/me/repo.git"), "{said}");
    assert!(said.contains("inherited"), "{said}");
    let (refs, pack) = ("GET /me/repo.git/info/refs", "POST /me/repo.git/git-upload-pack");
    let (whole, of_whole) = ("GET /me/whole.git/info/refs", "POST /me/whole.git/git-upload-pack");
    // Four clones of the one, with a pack each, and a fetch of nothing; one clone of the other.
    let mut requests = vec![refs; 5];
    requests.extend([whole]);
    requests.extend([pack; 9]);
    requests.extend([of_whole; 2]);
    forge.stage.assert_served(&output, &requests);
}

/// simple-git 4 starts git without any variable that begins with `GIT_`.
const SIMPLE_GIT: &str = r#"
const [folder] = process.argv.slice(1);
const { simpleGit } = require(`${folder}/simple-git`);
simpleGit().clone('git@github.com:me/repo.git', 'cloned').then(() => console.log('answer: fine'));
"#;

#[tokio::test]
async fn a_program_that_keeps_gits_variables_from_git_clones() {
    let forge = Forge::new(|plan| plan).await;
    let node = installed("real-node/node_modules/node24/bin/node").display().to_string();
    let packages = installed("real-node/node_modules").display().to_string();
    let line = format!("{node} -e \"$SCRIPT\" {packages}");
    let mut command = forge.stage.command(&Program::shell(&line));
    command.env("SCRIPT", SIMPLE_GIT);
    let output = run(command).await;
    let (refs, pack) = ("GET /me/repo.git/info/refs", "POST /me/repo.git/git-upload-pack");
    forge.stage.assert_served(&output, &[refs, pack, pack]);
}

/// A commit in a clone, and its push.
const CHANGE: &str = "git clone --quiet git@github.com:me/repo.git cloned
    cd cloned
    git -c user.email=t@acme.test commit --quiet --allow-empty -m two
    git push --quiet origin main";

#[tokio::test]
async fn clone_only_refuses_a_push_and_git_says_why() {
    for (rule, why) in [
        (
            "{ name: clone-only, agents: [ci], use: live, actions: [clone] }",
            "remote: denied: rule `file:clone-only` uses connection `live` for other requests only",
        ),
        (
            "{ name: no-push, actions: ['github:push'], action: deny }",
            "remote: denied: rule `file:no-push` denies this",
        ),
    ] {
        let forge = Forge::new(|plan| plan.rule(rule)).await;
        let before = forge.head();
        let output = forge.run(CHANGE).await;
        let said = said(&output);
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert_eq!(forge.head(), before, "nothing was pushed");
        let received = forge.stage.origin.received();
        let is_push = |request: &Message| request.head.target().contains("receive-pack");
        assert!(received.len() == 3 && !received.iter().any(is_push), "{received:#?}");
    }
}

#[tokio::test]
async fn without_a_rule_the_same_push_arrives() {
    let forge = Forge::new(|plan| plan).await;
    let before = forge.head();
    let output = forge.run(CHANGE).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_ne!(forge.head(), before);
}

/// The fields end with the connection's variables.
const AZURE: Service = Service::known(
    "azure-devops",
    "{ pat: { env: CANARY } }, variables: { org: me }",
    &["dev.azure.com"],
    Takes::Basic(""),
);

/// HTTPS URLs of Azure DevOps have `_git` before the repository, which no prefix of the SSH URL says: a line of git's
/// configuration names the project.
#[tokio::test]
async fn ssh_urls_of_azure_devops_go_by_https_where_git_knows_their_project() {
    let folder = TempDir::new().expect("a temporary directory");
    publish(folder.path());
    let project = folder.path().join("me/project/_git");
    std::fs::create_dir_all(&project).expect("a directory");
    std::fs::rename(folder.path().join("me/repo.git"), project.join("repo")).expect("it is there");
    let root = folder.path().to_owned();
    let stage = Stage::answering(&AZURE, move |request| backend(&root, request), |plan| plan).await;
    let line = "git config --global url.https://dev.azure.com/me/project/_git/.insteadOf git@ssh.dev.azure.com:v3/me/project/
        git clone --quiet git@ssh.dev.azure.com:v3/me/project/repo cloned
        git ls-remote --get-url git@ssh.dev.azure.com:v3/me/other/repo
        sed 's/hello/answer: fine/' cloned/README";
    let output = run(stage.command(&Program::shell(line))).await;
    let said = said(&output);
    assert!(said.contains("git@ssh.dev.azure.com:v3/me/other/repo"), "{said}");
    let (refs, pack) =
        ("GET /me/project/_git/repo/info/refs", "POST /me/project/_git/repo/git-upload-pack");
    stage.assert_served(&output, &[refs, pack, pack]);
}
