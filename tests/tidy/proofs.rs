//! Proofs of the data path: types that a stage makes and the next one takes. The compiler refuses to make one
//! elsewhere, because the fields are private; this check holds that one expression of one file makes it.

use super::Source;

/// Each proof, and the file that declares and makes it.
pub(crate) const PROOFS: &[(&str, &str)] = &[
    ("AttachedAgent", "crates/proxy/src/session/accepted_stream.rs"),
    ("ValidRequester", "crates/proxy/src/authorize/requester.rs"),
    ("Permitted", "crates/proxy/src/authorize/decide.rs"),
    ("Admitted", "crates/proxy/src/authorize/connection_limits.rs"),
    ("Outbound", "crates/proxy/src/upstream/outbound.rs"),
    ("Answer", "crates/proxy/src/exchange/answer.rs"),
    ("PermittedTunnel", "crates/proxy/src/tunnel/permitted_tunnel.rs"),
    ("PermittedLogin", "crates/rules/src/policy/permitted_login.rs"),
    ("Upstream", "crates/databases/src/upstream.rs"),
];

/// Words before `Proof {` or `Proof(` where nothing is made: declarations, types and patterns.
const BEFORE_NO_MAKER: &[&str] = &["struct", "impl", "for", "let", "->"];

/// A proof has private fields, is not copied, and is made at one place.
pub(crate) fn proofs_have_one_maker(source: &Source) -> Vec<String> {
    let of_this_file = PROOFS.iter().filter(|(_, file)| *file == source.path);
    let faults = of_this_file.flat_map(|(proof, _)| faults(&source.shipped, proof));
    faults.map(|fault| format!("{}: {fault}", source.path)).collect()
}

fn faults(code: &str, proof: &str) -> Vec<String> {
    let Some((before, fields)) = declaration(code, proof) else {
        return vec![format!("`{proof}` is not declared here")];
    };
    let mut found = vec![];
    if fields.split(|c: char| !c.is_alphanumeric()).any(|word| word == "pub") {
        found.push(format!("a field of the proof `{proof}` is not private"));
    }
    let attributes = before.rsplit(['}', ';']).next().unwrap_or_default();
    if ["Clone", "Copy", "Default"].iter().any(|derived| attributes.contains(derived)) {
        found.push(format!("the proof `{proof}` can be made by a derived trait"));
    }
    match makers(code, proof) {
        1 => {}
        makers => found.push(format!("the proof `{proof}` is made at {makers} places, not one")),
    }
    found
}

/// What stands before the declaration of a struct, and its fields.
fn declaration<'a>(code: &'a str, proof: &str) -> Option<(&'a str, &'a str)> {
    let declared = format!("struct {proof}");
    let (before, rest) = code.split_once(&declared)?;
    let opens = rest.find(['{', '('])?;
    let closes = if rest[opens..].starts_with('{') { '}' } else { ')' };
    let fields = &rest[opens..];
    Some((before, &fields[..fields.find(closes)?]))
}

/// How many expressions make the proof, by its name or as `Self`.
fn makers(code: &str, proof: &str) -> usize {
    let forms = [format!("{proof} {{"), format!("{proof}("), "Self {".into(), "Self(".into()];
    let makes = |at: usize| {
        let before = &code[..at];
        let is_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let word = before.split_whitespace().next_back().unwrap_or_default();
        !is_word && !BEFORE_NO_MAKER.contains(&word)
    };
    let all = forms.iter().flat_map(|form| code.match_indices(form.as_str()));
    all.filter(|(at, _)| makes(*at)).count()
}
