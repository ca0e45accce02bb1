//! [`PushedRefs`]: what a push by git changes, read from the beginning of its body (gitprotocol-http(5),
//! gitprotocol-pack(5)): pkt-lines of `OLD NEW REF` until a flush. Pure. No library is used, because text that a server
//! may read otherwise must be refused, and libraries accept it.

use http::Method;

use keyward_base::pattern::DecodedPath;

/// Maximum length of the list of references, in bytes: some thousand references.
pub const LIST_BYTES_MAX: usize = 256 * 1024;

/// The last segment of the path of a push.
const SERVICE: &str = "git-receive-pack";

/// The capability of a client that sends options after the list, gitprotocol-capabilities(5).
const OPTIONS: &[u8] = b"push-options";

/// The references that a push changes, and how its client is answered. Empty for a probe, which git sends before a large
/// push.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PushedRefs {
    updates: Vec<RefUpdate>,
    /// The client reads which references were refused.
    reports: bool,
    /// The client reads messages beside that.
    side_band: bool,
    /// Options follow the list.
    options: bool,
}

/// One reference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefUpdate {
    /// The full name: `refs/heads/main`.
    pub name: Box<str>,
    /// The push deletes it.
    pub deletes: bool,
}

/// The references of a push, as far as the body was read.
#[derive(Clone, Copy, Debug, Default)]
pub enum RequestedPush<'a> {
    /// The body was not read.
    #[default]
    Unread,
    /// The body was read and cannot be judged.
    Unclear(PushUnclear),
    /// The push changes these.
    Known(&'a PushedRefs),
}

/// Why the references of a push are not known. The text follows `the body`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PushUnclear {
    /// It is compressed.
    #[error("has a Content-Encoding")]
    Coded,
    /// It ends before the list does.
    #[error("ends before its list of references does")]
    Cut,
    /// The list is too long.
    #[error("has a list of references that is longer than 256 KiB")]
    TooLong,
    /// It is no list of references.
    #[error("is no list of references that all servers read in the same way")]
    Malformed,
    /// The list is in a certificate.
    #[error("is a signed push")]
    Signed,
    /// Options may have the service change more than the list says. GitLab creates merge requests and merges them
    /// (<https://docs.gitlab.com/topics/git/commit/#push-options>), Forgejo makes repositories public.
    #[error("has push options (`git push -o`), by which a service may do more than the push")]
    Options,
}

/// Reads the list of references piece by piece.
#[derive(Debug, Default)]
pub struct PushReader {
    bytes: Vec<u8>,
    /// Where the next pkt-line begins.
    at: usize,
    refs: PushedRefs,
    begun: bool,
}

impl RequestedPush<'_> {
    /// Whether the request is a push: its path ends with the name of git's service. Servers that ignore case and a slash
    /// at the end are included.
    pub fn is_push(method: &Method, path: &DecodedPath) -> bool {
        let last = path.as_str().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        !matches!(*method, Method::GET | Method::HEAD) && last.eq_ignore_ascii_case(SERVICE)
    }

    /// The references, if the push changes nothing else.
    ///
    /// # Errors
    /// Why that is not known. `None`: the body was not read.
    pub(crate) fn refs_alone(&self) -> Result<&PushedRefs, Option<PushUnclear>> {
        match self {
            Self::Unread => Err(None),
            Self::Unclear(why) => Err(Some(*why)),
            Self::Known(refs) if refs.options => Err(Some(PushUnclear::Options)),
            Self::Known(refs) => Ok(refs),
        }
    }

    /// Whether a server may find a push in another reading of an ambiguous path.
    pub(crate) fn may_be_push(method: &Method, path: &DecodedPath) -> bool {
        !method.is_safe()
            && path.ambiguous()
            && path.as_str().to_ascii_lowercase().contains(SERVICE)
    }
}

impl PushedRefs {
    /// The references of a push to these branches; `:NAME` is deleted. `None`: git has no such names.
    pub fn to_branches<'a>(names: impl Iterator<Item = &'a str>) -> Option<Self> {
        let update = |text: &str| {
            let name = text.strip_prefix(':');
            let full = full_name(name.unwrap_or(text));
            is_ref(&full).then(|| RefUpdate { name: full.into(), deletes: name.is_some() })
        };
        let updates = names.map(update).collect::<Option<_>>()?;
        Some(Self { updates, ..Self::default() })
    }

    /// The references.
    pub fn updates(&self) -> &[RefUpdate] {
        &self.updates
    }

    /// The body of an answer (`application/x-git-receive-pack-result`) that refuses every reference, as git shows it to
    /// its user. `None`: the client asks for no report.
    pub fn refusal(&self, reason: &str) -> Option<Vec<u8>> {
        if !self.reports || self.updates.is_empty() {
            return None;
        }
        // A control character would begin another line.
        let reason: String =
            reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1_000).collect();
        let mut report = pkt_line(b"unpack ok\n");
        for update in &self.updates {
            report.extend(pkt_line(format!("ng {} {reason}\n", update.name).as_bytes()));
        }
        report.extend(b"0000");
        if !self.side_band {
            return Some(report);
        }
        // Band 1 has the report; a pkt-line of `side-band` has at most 1000 bytes, gitprotocol-capabilities(5).
        let mut banded = Vec::with_capacity(report.len() + 16);
        for piece in report.chunks(900) {
            banded.extend(pkt_line(&[b"\x01", piece].concat()));
        }
        banded.extend(b"0000");
        Some(banded)
    }
}

fn pkt_line(payload: &[u8]) -> Vec<u8> {
    let mut line = format!("{:04x}", payload.len() + 4).into_bytes();
    line.extend(payload);
    line
}

impl PushReader {
    /// Adds a piece of the body. `true`: the list is complete.
    ///
    /// # Errors
    /// When the list cannot be judged.
    pub fn push(&mut self, piece: &[u8]) -> Result<bool, PushUnclear> {
        // What follows the list is not needed here.
        let room = (LIST_BYTES_MAX + 4).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        while let Some(length) = self.bytes.get(self.at..self.at + 4) {
            let length = length_of(length).ok_or(PushUnclear::Malformed)?;
            if length == 0 {
                return Ok(true);
            }
            // 1 to 3 are other markers, and 4 is a line without a content.
            if length <= 4 {
                return Err(PushUnclear::Malformed);
            }
            let Some(line) = self.bytes.get(self.at + 4..self.at + length) else { break };
            let line = line.to_vec();
            self.at += length;
            self.line(&line)?;
        }
        if self.bytes.len() > LIST_BYTES_MAX {
            return Err(PushUnclear::TooLong);
        }
        Ok(false)
    }

    /// The references, after the list was complete.
    pub fn finish(self) -> PushedRefs {
        self.refs
    }

    fn line(&mut self, line: &[u8]) -> Result<(), PushUnclear> {
        // A shallow clone names its boundary first.
        if line.starts_with(b"shallow ") && !self.begun {
            return Ok(());
        }
        if line.starts_with(b"push-cert") {
            return Err(PushUnclear::Signed);
        }
        let command = match line.iter().position(|byte| *byte == 0) {
            Some(end) if !self.begun => {
                self.capabilities(&line[end + 1..]);
                &line[..end]
            }
            Some(_) => return Err(PushUnclear::Malformed),
            None => line.strip_suffix(b"\n").unwrap_or(line),
        };
        self.begun = true;
        let update = update(command).ok_or(PushUnclear::Malformed)?;
        self.refs.updates.push(update);
        Ok(())
    }

    fn capabilities(&mut self, text: &[u8]) {
        let has =
            |name: &[u8]| text.split(|byte| byte.is_ascii_whitespace()).any(|given| given == name);
        // git names it only for a push with options, and servers also read `push-options=x`.
        self.refs.options = text.windows(OPTIONS.len()).any(|given| given == OPTIONS);
        self.refs.reports = has(b"report-status") || has(b"report-status-v2");
        self.refs.side_band = has(b"side-band-64k") || has(b"side-band");
    }
}

fn length_of(digits: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| usize::from_str_radix(text, 16).ok())?
}

/// `OLD NEW REF`.
fn update(command: &[u8]) -> Option<RefUpdate> {
    let text = std::str::from_utf8(command).ok()?;
    let mut words = text.splitn(3, ' ');
    let (old, new, name) = (words.next()?, words.next()?, words.next()?);
    let is_id =
        |id: &str| matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_sound = is_id(old) && is_id(new) && old.len() == new.len() && is_ref(name);
    is_sound.then(|| RefUpdate { name: name.into(), deletes: new.bytes().all(|byte| byte == b'0') })
}

/// The full name of a reference; without `refs/` it is that of a branch.
pub(crate) fn full_name(text: &str) -> String {
    match text.starts_with("refs/") {
        true => text.to_owned(),
        false => format!("refs/heads/{text}"),
    }
}

/// The names that git accepts, git-check-ref-format(1).
pub(crate) fn is_ref(name: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let is_refused = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    name.len() <= 1_024
        && name.starts_with("refs/")
        && name.split('/').all(is_part)
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(is_refused)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "1111111111111111111111111111111111111111";
    const NEW: &str = "2222222222222222222222222222222222222222";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    /// The body of a push: commands, a flush, and the beginning of a pack.
    fn body(commands: &[(&str, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (index, (new, name)) in commands.iter().enumerate() {
            let capabilities =
                if index == 0 { "\0 report-status side-band-64k agent=git/2" } else { "" };
            body.extend(pkt_line(format!("{OLD} {new} {name}{capabilities}").as_bytes()));
        }
        body.extend(b"0000PACK\0\0\0\x02");
        body
    }

    fn read(body: &[u8]) -> Result<Option<PushedRefs>, PushUnclear> {
        let mut reader = PushReader::default();
        Ok(reader.push(body)?.then(|| reader.finish()))
    }

    fn names(body: &[u8]) -> Vec<String> {
        let refs = read(body).unwrap().expect("complete");
        refs.updates()
            .iter()
            .map(|it| format!("{}{}", if it.deletes { "-" } else { "" }, it.name))
            .collect()
    }

    #[test]
    fn a_malformed_signed_or_too_long_push_is_unclear() {
        let line = |text: &str| [pkt_line(text.as_bytes()), b"0000".to_vec()].concat();
        let named = |name: &str| line(&format!("{OLD} {NEW} {name}"));
        let malformed = [
            b"zzzz".to_vec(),
            b"+004".to_vec(),
            b"0001".to_vec(),
            b"0004".to_vec(),
            line("push"),
            line(&format!("{OLD} {NEW}")),
            line(&format!("{OLD}  {NEW} refs/heads/a")),
            line(&format!("{OLD} 22 refs/heads/a")),
            line(&format!("{OLD} {NEW}{NEW} refs/heads/a")),
            named("main"),
            named("HEAD"),
            named("refs/heads/a b"),
            named("refs/heads/a\n\n"),
            named("refs/heads//a"),
            named("refs/heads/../heads/main"),
            named("refs/heads/.a"),
            named("refs/heads/a.lock"),
            named("refs/heads/a/"),
            named("refs/heads/a*"),
            named("refs/heads/a\u{7f}"),
            [
                pkt_line(
                    format!("{OLD} {NEW} refs/heads/\u{ff}").replace('\u{ff}', "\u{1}").as_bytes(),
                ),
                b"0000".to_vec(),
            ]
            .concat(),
            // Capabilities after the first command may hide a name.
            [
                pkt_line(format!("{OLD} {NEW} refs/heads/a\0").as_bytes()),
                pkt_line(format!("{OLD} {NEW} refs/heads/b\0refs/heads/main").as_bytes()),
            ]
            .concat(),
            [pkt_line(format!("{OLD} {NEW} refs/heads/a\0").as_bytes()), pkt_line(b"shallow 1")]
                .concat(),
        ];
        for bytes in malformed {
            assert_eq!(read(&bytes), Err(PushUnclear::Malformed), "{}", bytes.escape_ascii());
        }
        assert_eq!(read(&line("push-cert\0 report-status")), Err(PushUnclear::Signed));
        assert_eq!(
            read(
                &[pkt_line(format!("{OLD} {NEW} refs/heads/\0").as_bytes()), b"0000".to_vec()]
                    .concat()
            ),
            Err(PushUnclear::Malformed)
        );
        let many = vec![(NEW, "refs/heads/some-name"); 4_000];
        assert_eq!(read(&body(&many)), Err(PushUnclear::TooLong));
    }

    #[test]
    fn the_references_of_a_push_are_read_in_pieces_of_any_size() {
        let body =
            body(&[(NEW, "refs/heads/agent/a"), (ZERO, "refs/heads/old"), (NEW, "refs/tags/v1")]);
        let expected = ["refs/heads/agent/a", "-refs/heads/old", "refs/tags/v1"];
        assert_eq!(names(&body), expected);
        let mut reader = PushReader::default();
        let done = body.iter().position(|byte| reader.push(&[*byte]).unwrap()).expect("complete");
        assert!(body[done + 1..].starts_with(b"PACK"));
        assert_eq!(reader.finish(), read(&body).unwrap().unwrap());
        assert_eq!(names(b"0000"), [""; 0], "a probe changes nothing");
        let shallow = [pkt_line(format!("shallow {OLD}\n").as_bytes()), body].concat();
        assert_eq!(names(&shallow), expected);
        let sha256 = format!("{} {} refs/heads/a\0", "1".repeat(64), "0".repeat(64));
        assert_eq!(
            names(&[pkt_line(sha256.as_bytes()), b"0000".to_vec()].concat()),
            ["-refs/heads/a"]
        );
        for end in 0..body_end(&shallow) {
            assert_eq!(read(&shallow[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn a_push_with_options_changes_more_than_its_references() {
        for (capabilities, expected) in [
            ("push-options", Some(PushUnclear::Options)),
            (" report-status push-options=1 agent=git/2", Some(PushUnclear::Options)),
            (" report-status agent=git/2", None),
        ] {
            let line = format!("{OLD} {NEW} refs/heads/agent/a\0{capabilities}");
            let refs = read(&[pkt_line(line.as_bytes()), b"0000".to_vec()].concat());
            let refs = refs.unwrap().expect("complete");
            let unclear = RequestedPush::Known(&refs).refs_alone().err().flatten();
            assert_eq!(unclear, expected, "{capabilities}");
        }
    }

    fn body_end(body: &[u8]) -> usize {
        body.windows(8).position(|at| at == b"0000PACK").unwrap() + 4
    }

    #[test]
    fn a_refusal_is_a_status_report_in_the_format_of_the_client_s_capabilities() {
        let refs = read(&body(&[(NEW, "refs/heads/main")])).unwrap().unwrap();
        let report = refs.refusal("denied\nby a rule").unwrap();
        let text = report.escape_ascii().to_string();
        let expected = r"\x01000eunpack ok\n0028ng refs/heads/main denied by a rule\n00000000";
        assert_eq!(text.split_at(4).1, expected);
        let plain = PushedRefs { side_band: false, ..refs.clone() };
        assert!(plain.refusal("no").unwrap().starts_with(b"000eunpack ok\n"));
        assert_eq!(PushedRefs { reports: false, ..refs }.refusal("no"), None);
        assert_eq!(PushedRefs::default().refusal("no"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

    }
}
