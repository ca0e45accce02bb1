//! Opens the browser on a private file that redirects to the consent page: other processes could read a
//! start link on the browser's command line.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::failure::Failure;
use crate::cli::harden;
use crate::cli::run::child::withhold_own;
use crate::cli::settings::Global;

/// A file that redirects to the page; removed when dropped.
pub(super) struct RedirectFile(PathBuf);

impl Drop for RedirectFile {
    fn drop(&mut self) {
        // If it stays, its link was used or has expired.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Opens the user's browser, if there is one; the address was printed as well.
///
/// # Errors
/// When the data directory cannot be found.
pub(super) fn open(global: &Global, url: &str) -> Result<Option<RedirectFile>, Failure> {
    let browsers = browsers(&std::env::var("BROWSER").unwrap_or_default());
    if browsers.is_empty() {
        return Ok(None);
    }
    let file = global.data_dir()?.join(format!("consent-{}.html", std::process::id()));
    if write(&file, url).is_err() {
        return Ok(None);
    }
    let page = RedirectFile(file);
    let starts = |browser: &String| start(&words(browser, &page.0)).is_ok();
    Ok(browsers.iter().any(starts).then_some(page))
}

/// Starts a browser, which may outlive this command: it has the umask of its user and no secret of Keyward, and Ctrl-C at
/// this command does not end it.
fn start(words: &[OsString]) -> std::io::Result<()> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    withhold_own(&mut command);
    command.process_group(0);
    harden::with_umask_of_user(|| command.spawn()).map(drop)
}

/// The commands of `$BROWSER`, which are tried in order, else the desktop's; none without a display.
fn browsers(named: &str) -> Vec<String> {
    let named = named.split(':').map(str::trim).filter(|command| !command.is_empty());
    let named: Vec<String> = named.map(str::to_owned).collect();
    if !named.is_empty() {
        return named;
    }
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    match (cfg!(target_os = "macos"), screen) {
        (true, _) => vec!["open".to_owned()],
        (false, true) => vec!["xdg-open".to_owned()],
        (false, false) => Vec::new(),
    }
}

/// A command and its arguments. `%s` is the page, which is otherwise the last argument.
fn words(browser: &str, page: &Path) -> Vec<OsString> {
    let words: Vec<&str> = match Path::new(browser).is_file() {
        // The path of a program may have blanks.
        true => vec![browser],
        false => browser.split_whitespace().collect(),
    };
    let path = page.to_string_lossy();
    let mut words: Vec<_> =
        words.into_iter().map(|word| OsString::from(word.replace("%s", &path))).collect();
    if !browser.contains("%s") {
        words.push(page.into());
    }
    words
}

fn write(file: &Path, url: &str) -> std::io::Result<()> {
    // The link is safe in HTML: base64url, and the configured address, which was checked.
    let text = format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0;url={url}\"><a href=\"{url}\">Go on</a>"
    );
    drop(std::fs::remove_file(file));
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    opened.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn browsers_are_tried_in_order_with_their_arguments() {
        assert_eq!(browsers("w3m: :firefox --new-window:"), ["w3m", "firefox --new-window"]);
        for (browser, expected) in [
            ("w3m", &["w3m", "/p.html"][..]),
            ("firefox --new-window", &["firefox", "--new-window", "/p.html"]),
            ("a --url=%s b", &["a", "--url=/p.html", "b"]),
        ] {
            assert_eq!(words(browser, Path::new("/p.html")), expected, "{browser}");
        }
    }

    #[test]
    fn the_redirect_file_is_readable_only_by_its_owner_and_removed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consent.html");
        std::fs::write(&file, "older").unwrap();
        write(&file, "http://localhost:8081/oauth/start/abc").unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(std::fs::read_to_string(&file).unwrap().contains("url=http://localhost:8081/"));
        drop(RedirectFile(file.clone()));
        assert!(!file.exists());
    }
}
