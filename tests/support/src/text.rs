//! Small texts that tests and labs share.

/// A request head with `Host` second: `request` holds the request line and further lines.
pub fn request_text(request: &str, host: &str) -> String {
    let (first, rest) = request.split_once("\r\n").unwrap_or((request, ""));
    let rest = if rest.is_empty() { String::new() } else { format!("{rest}\r\n") };
    format!("{first} HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n")
}

/// The same in absolute form, of the agent with this token.
pub fn absolute(request: &str, host: &str, token: &str) -> String {
    let (method, rest) = request.split_once(' ').expect("a method and a path");
    let authorization = format!("Proxy-Authorization: Bearer {token}");
    request_text(&format!("{method} https://{host}{rest}\r\n{authorization}"), host)
}

pub(super) fn token_variable(agent: &str) -> String {
    format!("TOKEN_{}", agent.to_ascii_uppercase().replace('-', "_"))
}

pub(super) fn list(key: &str, items: impl IntoIterator<Item = String>) -> String {
    let lines: String = items.into_iter().map(|item| format!("  - {item}\n")).collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("{key}:\n{lines}"),
    }
}
