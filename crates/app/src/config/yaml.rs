//! Writes a configuration as YAML, for `keyward export`.

use serde_json::{Map, Value};

/// The sections as YAML. `head`: lines that come first, as comments.
///
/// # Errors
/// When a value has no form in YAML.
pub fn yaml(sections: &Map<String, Value>, head: &[String]) -> Result<String, serde_yaml::Error> {
    let comments: String =
        head.iter().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
    match sections.is_empty() {
        true => Ok(format!("{comments}{{}}\n")),
        false => Ok(comments + &serde_yaml::to_string(sections)?),
    }
}
