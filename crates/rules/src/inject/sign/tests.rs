//! The published examples: given the agent's head with any signature, ours is the published one.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::SignError;
use super::aws_sigv4::{AwsKeys, Signed, Unsigned};
use keyward_base::secret::Secret;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn keys() -> AwsKeys {
    AwsKeys {
        access_key_id: Secret::from("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_access_key: Secret::from("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: None,
        region: None,
        service: None,
    }
}

/// `Authorization` as the agent sent it, for these fields.
fn agents(names: &str) -> String {
    let credential = "AKIAkwph/20200101/us-east-1/s3/aws4_request";
    format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature=00ff")
}

fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        fields.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    fields
}

struct Example<'a> {
    method: &'a str,
    host: &'a str,
    path: &'a str,
    fields: HeaderMap,
    body: Option<&'a [u8]>,
}

impl Example<'_> {
    /// Signs as the proxy does: reads the agent's signature, removes it, signs.
    fn sign(&mut self, keys: &AwsKeys) -> Result<Signed, SignError> {
        let (path, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        let plan = keys.read(self.host, &self.fields, Some(query))?;
        assert_eq!(plan.needs_body(), self.body.is_some());
        super::aws_sigv4::FIELDS.iter().for_each(|name| drop(self.fields.remove(name)));
        let left: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.starts_with("X-Amz-") && !pair.is_empty())
            .collect();
        let path =
            if left.is_empty() { path.to_owned() } else { format!("{path}?{}", left.join("&")) };
        let (authority, now) = (self.host, "2013-05-24T00:00:00Z".parse::<Timestamp>().unwrap());
        let (method, fields, body) = (self.method, &mut self.fields, self.body);
        keys.sign(&plan, Unsigned { method, authority, path: &path, fields, body, now })
    }

    fn signature(&self) -> &str {
        let value = self.fields["authorization"].to_str().unwrap();
        assert!(self.fields["authorization"].is_sensitive());
        value.split_once("Signature=").unwrap().1
    }
}

fn s3<'a>(method: &'a str, path: &'a str, sent: &[(&'static str, &str)]) -> Example<'a> {
    Example {
        method,
        host: "examplebucket.s3.amazonaws.com",
        path,
        fields: fields(sent),
        body: None,
    }
}

#[test]
fn the_published_header_signatures_are_made() {
    let range = agents("host;range;x-amz-content-sha256;x-amz-date");
    let date = agents("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class");
    let plain = agents("host;x-amz-content-sha256;x-amz-date");
    let put = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let hash = |value| ("x-amz-content-sha256", value);
    let mut cases = [
        (
            s3(
                "GET",
                "/test.txt",
                &[("authorization", &range), ("range", "bytes=0-9"), hash(EMPTY)],
            ),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            s3(
                "PUT",
                "/test%24file.text",
                &[
                    ("authorization", &date),
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                    hash(put),
                ],
            ),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            s3("GET", "/?lifecycle", &[("authorization", &plain), hash(EMPTY)]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            s3("GET", "/?max-keys=2&prefix=J", &[("authorization", &plain), hash(EMPTY)]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ];
    for (example, published) in &mut cases {
        // What the agent's proxy adds is no part of the signature.
        example.fields.insert("user-agent", HeaderValue::from_static("x"));
        example.sign(&keys()).unwrap();
        assert_eq!(example.signature(), *published, "{}", example.path);
        assert_eq!(example.fields["x-amz-date"], "20130524T000000Z");
    }
}

#[test]
fn the_published_presigned_url_is_made() {
    let path = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAkwph%2F20130524%2Fus-east-1%2Fs3%2F\
                aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    let signed = s3("GET", path, &[]).sign(&keys()).unwrap();
    let path = signed.path.unwrap();
    assert!(
        path.contains(
            "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        ),
        "{path}"
    );
    assert!(
        path.starts_with("/test.txt?X-Amz-Algorithm=") && path.contains("&X-Amz-Expires=86400")
    );
    assert!(!path.contains("kwph"));
}

/// A body of 66,560 letters in chunks of 64 KiB, with the agent's signatures.
fn chunked(trailer: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for bytes in [65_536_usize, 1024, 0] {
        body.extend(format!("{bytes:x};chunk-signature={}\r\n", "0".repeat(64)).into_bytes());
        body.extend(std::iter::repeat_n(b'a', bytes));
        body.extend(if bytes == 0 { b"" } else { &b"\r\n"[..] });
    }
    body.extend(if trailer.is_empty() { b"\r\n" } else { trailer.as_bytes() });
    body
}

fn signatures(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    let found = text.split("-signature").skip(1).map(|rest| rest[1..65].to_owned());
    found.collect()
}

fn streamed(
    word: &str,
    more: &[(&'static str, &str)],
    trailer: &str,
    step: usize,
) -> (String, Vec<u8>) {
    let names: Vec<&str> = more.iter().map(|(name, _)| *name).collect();
    let names = agents(&format!("host;x-amz-content-sha256;x-amz-date;{}", names.join(";")));
    let mut sent = vec![("authorization", &*names), ("x-amz-content-sha256", word)];
    sent.extend(more);
    let mut example = s3("PUT", "/examplebucket/chunkObject.txt", &sent);
    example.host = "s3.amazonaws.com";
    let mut chunks = example.sign(&keys()).unwrap().chunks.unwrap();
    let body = chunked(trailer);
    let mut out = Vec::new();
    for piece in body.chunks(step) {
        assert!(chunks.end().is_err(), "the end comes last");
        out.extend(chunks.push(piece).unwrap());
    }
    chunks.end().unwrap();
    assert!(chunks.push(b"x").is_err(), "nothing follows the end");
    (example.signature().to_owned(), out)
}

const FIRST: [(&str, &str); 3] = [
    ("content-encoding", "aws-chunked"),
    ("x-amz-decoded-content-length", "66560"),
    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
];

#[test]
fn the_published_chunk_signatures_are_made_however_the_body_arrives() {
    let word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let sent = [FIRST[0], ("content-length", "66824"), FIRST[1], FIRST[2]];
    for step in [1, 7, 4096, 100_000] {
        let (seed, out) = streamed(word, &sent, "", step);
        assert_eq!(seed, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
        assert_eq!(out.len(), 66_824);
        assert_eq!(
            signatures(&out),
            [
                "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
                "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
                "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
            ]
        );
    }
}

#[test]
fn the_published_trailer_signature_is_made() {
    let word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    let zeros = "0".repeat(64);
    let sent = [FIRST[0], FIRST[1], FIRST[2], ("x-amz-trailer", "x-amz-checksum-crc32c")];
    let trailer =
        format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{zeros}\r\n\r\n");
    for step in [1, 100_000] {
        let (seed, out) = streamed(word, &sent, &trailer, step);
        assert_eq!(seed, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e");
        assert_eq!(
            signatures(&out),
            [
                "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
                "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
                "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
                "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
            ]
        );
    }
}

#[test]
fn what_is_not_in_chunks_is_refused() {
    let zeros = "0".repeat(64);
    let bad = [
        "hello, this is no chunk\r\n".to_owned(),
        "zz;chunk-signature=00\r\n".to_owned(),
        format!("+1;chunk-signature={zeros}\r\na\r\n"),
        format!("1;chunk-signature={zeros}\r\nab\r\n"),
        format!("7fffffff;chunk-signature={zeros}\r\n"),
        "1".repeat(5000),
    ];
    let names = agents("host");
    let word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    for body in bad {
        let sent = [("authorization", &*names), ("x-amz-content-sha256", word)];
        let signed = s3("PUT", "/a", &sent).sign(&keys()).unwrap();
        assert!(signed.chunks.unwrap().push(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn a_signature_that_cannot_be_made_again_is_refused() {
    let asymmetric = "AWS4-ECDSA-P256-SHA256 Credential=a/20200101/s3/aws4_request,SignedHeaders=host,Signature=0";
    let cases = [
        ("authorization", asymmetric, "AWS4-ECDSA-P256-SHA256"),
        ("authorization", "AWS4-HMAC-SHA256 SignedHeaders=host,Signature=0", "Credential"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=a/b/c,SignedHeaders=host", "scope"),
        ("authorization", "AWS4-HMAC-SHA256 Credential=a/1/r/s/aws4_request", "SignedHeaders"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-EVENTS", "event stream"),
        ("x-amz-content-sha256", "nonsense", "x-amz-content-sha256"),
    ];
    for (name, value, said) in cases {
        let error = s3("GET", "/", &[(name, value)]).sign(&keys()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let long = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F1%2Fr%2Fs%2Faws4_request&X-Amz-Date=\
                20130524T000000Z&X-Amz-Expires=999999999&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    assert!(s3("GET", long, &[]).sign(&keys()).is_err());
}

#[test]
fn a_request_without_signature_is_signed_for_what_its_host_or_connection_names() {
    let scope = |example: &Example<'_>| {
        let value = example.fields["authorization"].to_str().unwrap();
        value.split_once('/').unwrap().1.split_once(',').unwrap().0.to_owned()
    };
    let mut named =
        Example { host: "sqs.eu-west-1.amazonaws.com", body: Some(b"a"), ..s3("POST", "/", &[]) };
    named.sign(&keys()).unwrap();
    assert_eq!(scope(&named), "20130524/eu-west-1/sqs/aws4_request");
    assert!(!named.fields.contains_key("x-amz-content-sha256"));

    let mut unnamed = Example { host: "s3.corp.example", ..s3("GET", "/", &[]) };
    assert_eq!(unnamed.sign(&keys()).map(|_| ()).unwrap_err(), SignError::NoScope);
    let keys = AwsKeys { region: Some("auto".into()), service: Some("s3".into()), ..keys() };
    unnamed.sign(&keys).unwrap();
    assert_eq!(scope(&unnamed), "20130524/auto/s3/aws4_request");
    // S3 wants to know that the body is not part of the signature.
    assert_eq!(unnamed.fields["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
}

#[test]
fn temporary_keys_send_their_token_within_the_signature() {
    let keys = AwsKeys { session_token: Some(Secret::from("tok".to_owned())), ..keys() };
    let names = agents("host;x-amz-date");
    let mut example = s3("GET", "/", &[("authorization", &names), ("x-amz-security-token", "old")]);
    example.sign(&keys).unwrap();
    assert_eq!(example.fields["x-amz-security-token"], "tok");
    assert!(example.fields["x-amz-security-token"].is_sensitive());
    assert!(example.fields["authorization"].to_str().unwrap().contains("x-amz-security-token"));
}
