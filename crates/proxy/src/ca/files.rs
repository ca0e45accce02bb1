//! The CA's certificate and key files. After a crash at any moment, the next start completes or undoes the write.
//! The key is read only when no other user can read it.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::CaError;
use keyward_state::crypto::private_file;

/// Which of the two files exist.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CaFilePresence {
    Both,
    CertOnly,
    KeyOnly,
    /// The key and a staged certificate: a crash interrupted the replacement.
    Interrupted,
    Neither,
}

/// Checks which files exist.
pub(super) fn presence(cert: &Path, key: &Path) -> Result<CaFilePresence, CaError> {
    let exists = |path: &Path| path.try_exists().map_err(|source| read_error(path, source));
    Ok(match (exists(cert)?, exists(key)?) {
        (true, true) => CaFilePresence::Both,
        (true, false) => CaFilePresence::CertOnly,
        (false, true) if exists(&staged(cert))? => CaFilePresence::Interrupted,
        (false, true) => CaFilePresence::KeyOnly,
        (false, false) => CaFilePresence::Neither,
    })
}

/// Reads a certificate file.
pub(super) fn read_cert(path: &Path) -> Result<Vec<u8>, CaError> {
    std::fs::read(path).map_err(|source| read_error(path, source))
}

/// Reads the key file; the text is wiped when dropped.
pub(super) fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, CaError> {
    let mut file = File::open(path).map_err(|source| read_error(path, source))?;
    // From the open file, so that it cannot be replaced in between.
    let meta = file.metadata().map_err(|source| read_error(path, source))?;
    if private_file::open_mode(&meta) != 0 {
        let mode = meta.mode() & 0o7777;
        return Err(CaError::LooseKey { path: path.to_owned(), mode });
    }
    // With the room for all of it, so that growing leaves no copies behind.
    let room = usize::try_from(meta.len()).unwrap_or(0).saturating_add(1);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.read_to_end(&mut text).map_err(|source| read_error(path, source))?;
    Ok(text)
}

/// Writes both files. The key is published first: with the key and a staged certificate the next start can complete
/// the write, see [`CaFilePresence::Interrupted`].
pub(super) fn write_pair(
    cert: &Path,
    cert_pem: &str,
    key: &Path,
    key_pem: &str,
) -> Result<(), CaError> {
    for path in [cert, key] {
        let dir = directory(path);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| write_error(dir, source))?;
    }
    // The certificate is public; the mode of its directory decides who can read it.
    stage(cert, cert_pem.as_bytes(), 0o644)?;
    stage(key, key_pem.as_bytes(), 0o600)?;
    // The name of the certificate must be on disk before that of the key.
    sync(cert)?;
    publish(key)?;
    publish(cert)
}

/// Replaces both files. Publishing the key is the commit point: a crash before it keeps the old pair, a crash after
/// it leaves the new key with a staged certificate. The old key's bytes are overwritten as far as the file system
/// allows.
pub(super) fn replace_pair(
    cert: &Path,
    cert_pem: &str,
    key: &Path,
    key_pem: &str,
) -> Result<(), CaError> {
    for path in [cert, key] {
        let about = std::fs::symlink_metadata(path).map_err(|source| read_error(path, source))?;
        if about.is_symlink() {
            return Err(CaError::Link { path: path.to_owned() });
        }
    }
    let old = open_to_wipe(key).map_err(|source| read_error(key, source))?;
    write_pair(cert, cert_pem, key, key_pem)?;
    old.map_or(Ok(()), wipe).map_err(|source| write_error(key, source))
}

/// Replaces the certificate file, when the key stays.
pub(super) fn replace_cert(cert: &Path, cert_pem: &str) -> Result<(), CaError> {
    stage(cert, cert_pem.as_bytes(), 0o644)?;
    publish(cert)
}

/// Copies a file to `copy`, if it exists, for its owner alone. A copy that exists already stays: it is from an attempt
/// that a crash interrupted, after which the file may be another one.
pub(super) fn keep(path: &Path, copy: &Path) -> Result<(), CaError> {
    if copy.try_exists().map_err(|source| read_error(copy, source))? {
        return Ok(());
    }
    let content = match std::fs::read(path) {
        Ok(content) => Zeroizing::new(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(read_error(path, error)),
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory(copy));
    made.map_err(|source| write_error(copy, source))?;
    stage(copy, &content, 0o600)?;
    publish(copy)
}

/// Removes staged files of a crash before the commit point. On a read-only file system, such as a mounted secret, the
/// removal fails also if there are none.
pub(super) fn discard_staged(cert: &Path, key: &Path) -> Result<(), CaError> {
    for path in [staged(cert), staged(key)] {
        match std::fs::remove_file(&path) {
            Err(error) if !is_without_effect(&error) => return Err(write_error(&path, error)),
            _ => {}
        }
    }
    Ok(())
}

fn is_without_effect(removal: &io::Error) -> bool {
    matches!(removal.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem)
}

/// Opens the file for wiping, unless it is write-protected or has a second name.
fn open_to_wipe(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) if file.metadata()?.nlink() == 1 => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn wipe(mut file: File) -> io::Result<()> {
    let len = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(len), &mut file)?;
    file.sync_all()
}

/// Moves a staged file to its place, durably.
pub(super) fn publish(path: &Path) -> Result<(), CaError> {
    std::fs::rename(staged(path), path).map_err(|source| write_error(path, source))?;
    sync(path)
}

/// Makes the names in a file's directory durable.
fn sync(path: &Path) -> Result<(), CaError> {
    let synced = File::open(directory(path)).and_then(|directory| directory.sync_all());
    synced.map_err(|source| write_error(path, source))
}

/// The path of a staged file.
pub(super) fn staged(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".keyward-new");
    path.with_file_name(name)
}

/// Writes a staged file with the owner of the file that it replaces: root may do this for the gateway's user.
fn stage(place: &Path, content: &[u8], mode: u32) -> Result<(), CaError> {
    let path = staged(place);
    let write = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        if let Ok(old) = std::fs::symlink_metadata(place)
            && (old.uid(), old.gid()) != (file.metadata()?.uid(), file.metadata()?.gid())
        {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|source| write_error(&path, source))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn read_error(path: &Path, source: io::Error) -> CaError {
    CaError::Read { path: path.to_owned(), source }
}

fn write_error(path: &Path, source: io::Error) -> CaError {
    CaError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").mode() & 0o7777
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("ca.key");
        fs::write(&path, "key").expect("write");
        for loose in [0o640, 0o604, 0o660, 0o601, 0o777] {
            fs::set_permissions(&path, Permissions::from_mode(loose)).expect("chmod");
            let error = read_key(&path).expect_err("loose");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        for tight in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(tight)).expect("chmod");
            assert_eq!(read_key(&path).expect("read").as_slice(), b"key", "{tight:o}");
        }
    }

    #[test]
    fn a_new_key_and_its_directories_are_accessible_to_their_owner_only() {
        let dir = tempfile::tempdir().expect("directory");
        let (cert, key) = (dir.path().join("made/ca/ca.pem"), dir.path().join("made/ca/ca.key"));
        write_pair(&cert, "cert", &key, "key").expect("written");
        assert_eq!(mode(&key), 0o600);
        assert_eq!(mode(&dir.path().join("made")), 0o700);
        assert_eq!(mode(&dir.path().join("made/ca")), 0o700);
        assert_eq!(presence(&cert, &key).expect("looked"), CaFilePresence::Both);
        assert_eq!(fs::read_dir(dir.path().join("made/ca")).expect("list").count(), 2);
    }

    #[test]
    fn a_staged_file_that_a_crash_left_is_replaced() {
        let dir = tempfile::tempdir().expect("directory");
        let (cert, key) = (dir.path().join("ca.pem"), dir.path().join("ca.key"));
        fs::write(staged(&key), "half").expect("write");
        assert_eq!(presence(&cert, &key).expect("looked"), CaFilePresence::Neither);
        write_pair(&cert, "cert", &key, "key").expect("written");
        assert_eq!(read_key(&key).expect("read").as_slice(), b"key");
    }

    #[test]
    fn a_replaced_key_is_overwritten_and_a_link_is_not_replaced() {
        let dir = tempfile::tempdir().expect("directory");
        let (cert, key) = (dir.path().join("ca.pem"), dir.path().join("ca.key"));
        write_pair(&cert, "old cert", &key, "old key").expect("written");
        let before = File::open(&key).expect("open");
        replace_pair(&cert, "cert", &key, "key").expect("replaced");
        assert_eq!(io::read_to_string(before).expect("read"), "\0".repeat("old key".len()));
        assert_eq!((read_key(&key).expect("read").as_slice(), mode(&key)), (&b"key"[..], 0o600));
        let real = dir.path().join("real.key");
        fs::rename(&key, &real).expect("rename");
        std::os::unix::fs::symlink(&real, &key).expect("link");
        let refused = replace_pair(&cert, "x", &key, "x").expect_err("a link");
        assert!(matches!(refused, CaError::Link { .. }), "{refused}");
        assert_eq!(fs::read(&real).expect("read"), b"key");
        assert_eq!(fs::read(&cert).expect("read"), b"cert");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("write");
        let (cert, key) = (file.join("ca.pem"), file.join("ca.key"));
        let error = write_pair(&cert, "cert", &key, "key").expect_err("no directory");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
}
