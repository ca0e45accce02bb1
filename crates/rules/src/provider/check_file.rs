//! Checks the auth methods of kind `file` of a provider file: they have no place in requests, and set variables that no
//! program acts on.

use super::document::{Problems, key_of};
use super::environment;
use super::file::FileText;
use super::kinds::AuthKind;
use super::schema::AuthText;

/// 16 bytes: as long as the longest mark of a format that the catalogue has.
const BEGINS_BYTES_MAX: usize = 16;

/// Checks the keys of a method of kind `file`; `None` for other kinds.
pub(super) fn file(text: &AuthText, path: &str, problems: &mut Problems<'_>) -> Option<FileText> {
    if text.kind != AuthKind::File {
        return None;
    }
    let given = [
        ("placement", text.placement.is_some()),
        ("place", text.place.is_some()),
        ("placements", text.placements.is_some()),
        ("fields", text.fields.is_some()),
        ("key", text.key.is_some()),
        ("env", !text.env.is_empty()),
        ("test", text.test.is_some()),
        ("tls", text.tls.is_some()),
    ];
    for (key, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
        let message = format!("`{key}` does not go with kind `file`");
        problems.add(&key_of(path, key), message, "remove it, or change the kind");
    }
    let (file, at) = (text.file.clone().unwrap_or_default(), key_of(path, "file"));
    if file.begins.len() > BEGINS_BYTES_MAX {
        let message = "this is longer than 16 bytes";
        problems.add(&key_of(&at, "begins"), message, "write the first bytes alone");
    }
    for name in file.variables.keys().filter(|name| !environment::may_name_file(name)) {
        let message = "a provider cannot set an environment variable of this name";
        let remedy = "write DATABASE_URL, or a name such as `ACME_URI` or `ACME_DATABASE`";
        problems.add(&key_of(&key_of(&at, "variables"), name), message, remedy);
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::super::{Catalogue, check};

    fn problems(keys: &str, hosts: &str) -> Vec<String> {
        let text = format!(
            "id: acme\nname: Acme\nhosts: [{hosts}]\nauth: [{{ id: f, kind: file, {keys} }}]\n"
        );
        let found = check::file("p.yaml", &text, &Catalogue::built_in());
        found.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_has_no_host_no_place_in_requests_and_no_variable_that_programs_act_on() {
        for (keys, hosts, says) in [
            ("", "api.acme.test", "a file has no host"),
            ("placement: { header: X-Path }", "", "auth[0].placement: `placement` does not go"),
            ("fields: [{ name: key }]", "", "auth[0].fields: `fields` does not go"),
            ("env: [ACME_TOKEN]", "", "auth[0].env: "),
            ("file: { variables: { LD_PRELOAD: '{path}' } }", "", "variable of this name"),
            ("file: { variables: { PATH: '{path}' } }", "", "variable of this name"),
            ("file: { variables: { SSL_CERT_FILE: '{path}' } }", "", "variable of this name"),
            ("file: { begins: 'x12345678901234567' }", "", "longer than 16 bytes"),
            ("file: { ends: x }", "", "ends"),
        ] {
            let found = problems(keys, hosts).join("\n");
            assert!(found.contains(says), "{keys}: {found}");
        }
        assert_eq!(problems("file: { variables: { ACME_URI: 'file:{path}' } }", ""), [""; 0]);
        assert_eq!(problems("label: A folder", ""), [""; 0]);
    }

    #[test]
    fn a_file_beside_other_methods_is_refused() {
        let text = "id: acme\nname: Acme\nhosts: []\n\
                    auth: [{ id: f, kind: file }, { id: b, kind: bearer }]\n";
        let found = check::file("p.yaml", text, &Catalogue::built_in()).unwrap_err();
        assert!(found.iter().any(|it| it.to_string().contains("beside it")), "{found:?}");
    }
}
