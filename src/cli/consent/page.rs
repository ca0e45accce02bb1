//! Opens the browser on a private file that redirects to the consent page: other processes could read a
//! start link on the browser's command line.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::failure::Failure;
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
    let Some(program) = program() else { return Ok(None) };
    let file = global.data_dir()?.join(format!("consent-{}.html", std::process::id()));
    if write(&file, url).is_err() {
        return Ok(None);
    }
    let page = RedirectFile(file);
    let mut command = Command::new(program);
    command.arg(&page.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn().is_ok().then_some(page))
}

/// `$BROWSER`, else the desktop's browser; `None` without a display.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("BROWSER").filter(|named| !named.is_empty());
    if let Some(named) = named {
        return Some(named.into());
    }
    if cfg!(target_os = "macos") {
        return Some("open".into());
    }
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    screen.then(|| "xdg-open".into())
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
    fn the_file_is_for_its_owner_alone_and_goes() {
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
