//! [`Chromium`] for the tests of the console: tabs in profiles of their own, whose elements are found by role and name.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::stage::installed;

/// Longer than the driver waits for an element.
const PATIENCE: Duration = Duration::from_secs(60);

/// The browser.
pub(crate) struct Chromium {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    last: u64,
    folder: PathBuf,
    /// Killed when it is dropped.
    _child: Child,
}

/// The look of a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) scheme: &'static str,
}

impl Chromium {
    /// Starts it with its files in `folder`. `arguments` are its own.
    pub(crate) async fn start(folder: &Path, arguments: &[String]) -> Self {
        let node = installed("real-node/node_modules/node24/bin/node");
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/console/driver.mjs");
        let mut child = Command::new(node)
            .arg(script)
            .args([Path::new("chromium"), &installed("real-node")])
            .args(arguments)
            .current_dir(folder)
            .env("HOME", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("`tests/run` installs node");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let folder = folder.to_owned();
        let mut browser = Self { input, output, last: 0, folder, _child: child };
        assert!(browser.line().await["ready"].is_boolean(), "the driver starts");
        browser
    }

    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.expect("the driver answers").expect("a pipe").expect("the driver runs");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Runs a command of the driver, which may fail.
    async fn try_run(&mut self, name: &str, page: &str, more: Value) -> Result<Value, String> {
        self.last += 1;
        let mut command = Map::from_iter([
            ("id".to_owned(), json!(self.last)),
            ("do".to_owned(), json!(name)),
            ("page".to_owned(), json!(page)),
        ]);
        let Value::Object(more) = more else { panic!("an object") };
        command.extend(more);
        let line = format!("{}\n", Value::Object(command));
        self.input.write_all(line.as_bytes()).await.expect("the driver runs");
        let mut answer = self.line().await;
        assert_eq!(answer["id"], self.last);
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["value"].take()),
        }
    }

    async fn run(&mut self, name: &str, page: &str, more: Value) -> Value {
        let answer = self.try_run(name, page, more).await;
        answer.unwrap_or_else(|error| panic!("{page}: {error}"))
    }

    /// A tab in a profile of its own.
    pub(crate) async fn tab(&mut self, page: &'static str) -> Tab<'_> {
        self.run("profile", page, json!({})).await;
        Tab { browser: self, page }
    }

    /// A tab that was opened before.
    pub(crate) fn again(&mut self, page: &'static str) -> Tab<'_> {
        Tab { browser: self, page }
    }
}

/// One tab.
pub(crate) struct Tab<'a> {
    browser: &'a mut Chromium,
    page: &'static str,
}

impl<'a> Tab<'a> {
    /// Another tab of the same profile.
    pub(crate) async fn beside(mut self, page: &'static str) -> Tab<'a> {
        self.run("beside", json!({ "as": page })).await;
        Tab { browser: self.browser, page }
    }
}

impl Tab<'_> {
    async fn run(&mut self, name: &str, more: Value) -> Value {
        self.browser.run(name, self.page, more).await
    }

    /// Shows the tab: browsers paint no page that is hidden.
    pub(crate) async fn comes_to_front(&mut self) {
        self.run("front", json!({})).await;
    }

    /// Opens a URL; the status and the bytes of the page.
    pub(crate) async fn open(&mut self, url: &str) -> (u64, u64) {
        let opened = self.run("open", json!({ "url": url })).await;
        (opened["status"].as_u64().expect("a number"), opened["length"].as_u64().expect("a number"))
    }

    /// Presses a button, a link or a checkbox.
    pub(crate) async fn click(&mut self, name: &str) {
        self.run("click", json!({ "name": name })).await;
    }

    /// Presses a button or a link, which leads to this path.
    pub(crate) async fn leads(&mut self, name: &str, path: &str) {
        self.click(name).await;
        self.is_at(path).await;
    }

    /// Presses a button or a link, and waits until the page shows the text.
    pub(crate) async fn shows(&mut self, name: &str, text: &str) {
        self.click(name).await;
        self.sees(text).await;
    }

    /// Presses a button of a page that has a link of the same name.
    pub(crate) async fn click_button(&mut self, name: &str) {
        self.run("click", json!({ "name": name, "role": "button" })).await;
    }

    /// Types into a field, in place of what it has.
    pub(crate) async fn fill(&mut self, name: &str, text: &str) {
        self.run("fill", json!({ "name": name, "text": text })).await;
    }

    /// Chooses a value of a list.
    pub(crate) async fn choose(&mut self, name: &str, value: &str) {
        self.run("choose", json!({ "name": name, "value": value })).await;
    }

    /// Presses keys one after the other.
    pub(crate) async fn press(&mut self, keys: &[&str]) {
        self.run("press", json!({ "keys": keys })).await;
    }

    /// Presses Tab until the element has the focus.
    pub(crate) async fn tab_to(&mut self, name: &str) {
        self.run("tab_to", json!({ "name": name })).await;
    }

    /// Waits until the page shows the text.
    pub(crate) async fn sees(&mut self, text: &str) {
        self.run("sees", json!({ "text": text })).await;
    }

    /// Waits until the address has this path.
    pub(crate) async fn is_at(&mut self, path: &str) {
        self.run("at", json!({ "path": path })).await;
    }

    /// Its address.
    pub(crate) async fn url(&mut self) -> String {
        self.run("url", json!({})).await.as_str().expect("text").to_owned()
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&mut self, code: &str) -> Value {
        self.run("evaluate", json!({ "code": code })).await
    }

    /// All requests and errors of the tab.
    pub(crate) async fn seen(&mut self) -> Value {
        self.run("seen", json!({})).await
    }

    /// The cookies of the profile.
    pub(crate) async fn cookies(&mut self) -> Value {
        self.run("cookies", json!({})).await
    }

    /// Gives the tab an authenticator that verifies its user.
    pub(crate) async fn authenticator(&mut self) {
        self.run("authenticator", json!({})).await;
    }

    /// Bytes of the page and all that it loaded.
    pub(crate) async fn weight(&mut self) -> u64 {
        self.run("weight", json!({})).await.as_u64().expect("a number")
    }

    /// Milliseconds until the page showed something.
    pub(crate) async fn paint(&mut self) -> f64 {
        self.run("paint", json!({})).await.as_f64().expect("a number")
    }

    /// Waits until the page does not show the text.
    pub(crate) async fn does_not_see(&mut self, text: &str) {
        self.run("gone", json!({ "text": text })).await;
    }

    /// Sets window and theme.
    pub(crate) async fn looks(&mut self, look: Look) {
        let Look { width, scheme } = look;
        let more = json!({ "width": width, "height": 900, "scheme": scheme });
        self.run("size", more).await;
    }

    /// Asserts that axe-core finds no violation.
    pub(crate) async fn is_accessible(&mut self) {
        let found = self.run("axe", json!({})).await;
        let url = self.url().await;
        assert_eq!(found, json!([]), "{url}");
    }

    /// Writes a picture to the folder of the test, or to `KEYWARD_SCREENSHOTS`.
    pub(crate) async fn screenshot(&mut self, name: &str) {
        let folder = std::env::var_os("KEYWARD_SCREENSHOTS").map(PathBuf::from);
        let folder = folder.unwrap_or_else(|| self.browser.folder.clone());
        let file = folder.join(format!("{name}.png"));
        self.run("screenshot", json!({ "file": file })).await;
    }
}
