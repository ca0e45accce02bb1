//! Messages as bytes, for what no driver sends.

/// A command on `items` of the database `app`.
pub(super) fn command(name: &str) -> Vec<u8> {
    msg(&[text(name, "items"), text("$db", "app")])
}

/// The login for the connection `main`.
pub(super) fn login(token: &str) -> Vec<u8> {
    let payload = format!("\0main\0{token}");
    msg(&[
        text("saslStart", ""),
        text("mechanism", "PLAIN"),
        text("payload", &payload),
        text("$db", "$external"),
    ])
}

/// `OP_MSG` with a document of these elements.
fn msg(elements: &[Vec<u8>]) -> Vec<u8> {
    let elements = elements.concat();
    let document = [&length(elements.len() + 5)[..], &elements, b"\0"].concat();
    let head = [7, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0, 0, 0, 0, 0, 0];
    [&length(21 + document.len())[..], &head, &document].concat()
}

/// An element that is a string.
fn text(name: &str, value: &str) -> Vec<u8> {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    [b"\x02", name, b"\0", &length(value.len() + 1), value, b"\0"].concat()
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("it is short").to_le_bytes()
}
