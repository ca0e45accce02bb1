//! Tests by published examples: for the agent's head with any signature, our signature is the published one.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>
//!
//! Those of Version 4A are of the suite that AWS publishes with its SDKs (`aws-signing-test-suite/v4a` in the `aws-sigv4`
//! crate): such signatures differ each time, so ours are verified with the suite's public key and texts.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::aws_request::{SignedAwsRequest, Unsigned};
use super::aws_sigv4::AwsKeys;
use super::error::SignError;
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
    fn sign(&mut self, keys: &AwsKeys) -> Result<SignedAwsRequest, SignError> {
        self.sign_at(keys, "2013-05-24T00:00:00Z")
    }

    fn sign_at(&mut self, keys: &AwsKeys, now: &str) -> Result<SignedAwsRequest, SignError> {
        let (path, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        let plan = keys.read(self.host, &self.fields, Some(query))?;
        assert_eq!(plan.needs_body(), self.body.is_some());
        super::aws_names::FIELDS.iter().for_each(|name| drop(self.fields.remove(name)));
        let left: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.starts_with("X-Amz-") && !pair.is_empty())
            .collect();
        let path =
            if left.is_empty() { path.to_owned() } else { format!("{path}?{}", left.join("&")) };
        let (authority, now) = (self.host, now.parse::<Timestamp>().unwrap());
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
fn a_streamed_body_without_valid_chunks_is_refused() {
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
        ("authorization", asymmetric, "X-Amz-Region-Set"),
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
fn an_unsigned_request_is_signed_for_the_scope_of_its_host_or_connection() {
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
fn s3_tables_vectors_and_files_are_not_signed_as_s3() {
    // botocore's `SigV4Auth` makes the same signature.
    let path = "/namespaces/arn%3Aaws%3As3tables%3Aus-east-1%3A123456789012%3Abucket%2Fmy-bucket";
    let signature = "a4b05c92b2a816a474b0e59bbf7027408fd9c58c435cc1ef2d7f6e1fc3309971";
    let unsigned = |host| Example { host, body: Some(b""), ..s3("GET", path, &[]) };
    let mut tables = unsigned("s3tables.us-east-1.amazonaws.com");
    tables.sign(&keys()).unwrap();
    assert_eq!(tables.signature(), signature);
    for host in ["s3vectors.us-east-1.amazonaws.com", "s3files.us-east-1.amazonaws.com"] {
        let mut other = unsigned(host);
        other.sign(&keys()).unwrap();
        assert!(!other.fields.contains_key("x-amz-content-sha256"), "{host}");
    }
}

#[test]
fn s3_signs_every_path_as_the_one_that_it_encodes_itself() {
    // botocore's `S3SigV4Auth` makes the same signature for the encoded path.
    let signature = "21457fa5a8d2eea5ac4d6f1e0652ae4a0ff51e08097c8cc57ea379f5ba10729c";
    let paths = [("/a=b", "/a%3Db"), ("/x:y", "/x%3Ay"), ("/%e4", "/%E4"), ("/a+b", "/a%20b")];
    for (sent, encoded) in paths {
        let (mut example, mut same) = (s3("GET", sent, &[]), s3("GET", encoded, &[]));
        assert_eq!(example.sign(&keys()).unwrap().path, None, "{sent} stays on the wire");
        same.sign(&keys()).unwrap();
        assert_eq!(example.signature(), same.signature(), "{sent}");
        assert_eq!(example.signature() == signature, sent == "/a=b");
    }
}

#[test]
fn an_undeclared_body_of_s3_outposts_is_signed_except_for_a_presigned_url() {
    let host = "s3-outposts.us-west-2.amazonaws.com";
    let control = s3("GET", "/S3Outposts/ListEndpoints", &[]);
    let mut control = Example { host, body: Some(b""), ..control };
    control.sign(&keys()).unwrap();
    assert_eq!(control.fields["x-amz-content-sha256"], EMPTY);
    // botocore's `S3SigV4QueryAuth` makes the same signature.
    let path = "/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAkwph%2F20130524%2Fus-west-2%2Fs3-outposts%2F\
                aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    let host = "ap-123456789012.op-1.s3-outposts.us-west-2.amazonaws.com";
    let signed = Example { host, ..s3("GET", path, &[]) }.sign(&keys()).unwrap();
    let path = signed.path.unwrap();
    let signature = "0bf43600c3422bc7f8bcc1d81cbb2ebeec2d44e804c3fa7c5a4219858ebeb12a";
    assert!(path.contains(&format!("X-Amz-Signature={signature}")), "{path}");
}

#[test]
fn the_session_token_of_temporary_keys_is_sent_and_signed() {
    let keys = AwsKeys { session_token: Some(Secret::from("tok".to_owned())), ..keys() };
    let names = agents("host;x-amz-date");
    let mut example = s3("GET", "/", &[("authorization", &names), ("x-amz-security-token", "old")]);
    example.sign(&keys).unwrap();
    assert_eq!(example.fields["x-amz-security-token"], "tok");
    assert!(example.fields["x-amz-security-token"].is_sensitive());
    assert!(example.fields["authorization"].to_str().unwrap().contains("x-amz-security-token"));
}

fn suite_keys(token: Option<&str>) -> AwsKeys {
    AwsKeys {
        access_key_id: Secret::from("AKIDEXAMPLE".to_owned()),
        secret_access_key: Secret::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: token.map(|token| Secret::from(token.to_owned())),
        ..keys()
    }
}

/// Whether `signature` is one of the suite's text to sign, which ends in this hash.
fn is_of_the_suite(signature: &str, hash: &str) -> bool {
    let text =
        format!("AWS4-ECDSA-P256-SHA256\n20150830T123600Z\n20150830/service/aws4_request\n{hash}");
    let (x, y) = (
        "b6618f6a65740a99e650b33b6b4b5bd0d43b176d721a3edfea7e7d2d56d936b1",
        "865ed22a7eadc9c5cb9d2cbaca1b3699139fedc5043dc6661864218330c8e518",
    );
    let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bytes(&format!("04{x}{y}")));
    key.verify(text.as_bytes(), &bytes(signature)).is_ok()
}

/// `Authorization` of Version 4A as the agent sent it, for these fields.
fn for_set(names: &str) -> String {
    let credential = "AKIAkwph/20200101/service/aws4_request";
    format!("AWS4-ECDSA-P256-SHA256 Credential={credential}, SignedHeaders={names}, Signature=00ff")
}

fn of_suite<'a>(path: &'a str, sent: &[(&'static str, &str)], body: &'a [u8]) -> Example<'a> {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let is_declared = sent.iter().any(|(name, _)| *name == "x-amz-content-sha256");
    let body = (!is_declared).then_some(body);
    Example { method, host: "example.amazonaws.com", path, fields: fields(sent), body }
}

const SUITE_TIME: &str = "2015-08-30T12:36:00Z";

#[test]
fn signatures_for_a_set_of_regions_are_those_of_the_published_suite() {
    let vanilla = "cf59db423e841c8b7e3444158185aa261b724a5c27cbe762676f3eed19f4dc02";
    let body = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e";
    let form = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", "13"),
        ("x-amz-content-sha256", body),
    ];
    let trimmed = [("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
    let ordered = "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1";
    let cases: [(_, &[_], &[u8], _); 8] = [
        ("/", &[], b"", vanilla),
        ("/./", &[], b"", vanilla),
        ("/example1/example2/../..", &[], b"", vanilla),
        (
            "//example//",
            &[],
            b"",
            "ea6c9c4bc1e85b94f2579cebbc85a84c3f8eaa055c006697555f074dd68509a6",
        ),
        (
            "/?%E1%88%B4=bar",
            &[],
            b"",
            "b27131d754045e85823698b1fe3fc9694c17b16d97f4c43cef2359a1233c7b76",
        ),
        (ordered, &[], b"", "55568a29040b287c72015a5ab482d9aaceeb1e9881f3bc946378bc3d6079f6a5"),
        ("/", &trimmed, b"", "18b43001be9b531ebdd8202144dbd7630ea8a35bc328a7d0e561dda03a876095"),
        (
            "/",
            &form,
            b"Param1=value1",
            "ba7fa291aefad463b308fdc89b33d852aea9fbcfa151d820117bd8189066cb91",
        ),
    ];
    for (path, sent, body, hash) in cases {
        let names: Vec<&str> = sent.iter().map(|(name, _)| *name).collect();
        let authorization = for_set(&format!("{};host;x-amz-region-set", names.join(";")));
        let mut sent = sent.to_vec();
        sent.extend([("authorization", &*authorization), ("x-amz-region-set", "us-east-1")]);
        let mut example = of_suite(path, &sent, body);
        example.sign_at(&suite_keys(None), SUITE_TIME).unwrap();
        assert!(is_of_the_suite(example.signature(), hash), "{path} {sent:?}");
        assert!(!is_of_the_suite(example.signature(), &hash.replace('a', "b")), "{path}");
        assert_eq!(example.fields["x-amz-region-set"], "us-east-1");
        let credential = "Credential=AKIDEXAMPLE/20150830/service/aws4_request,";
        assert!(example.fields["authorization"].to_str().unwrap().contains(credential));
    }
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let authorization = for_set("host;x-amz-region-set");
    let sent = [("authorization", &*authorization), ("x-amz-region-set", "us-east-1")];
    let mut example = of_suite("/", &sent, b"");
    example.sign_at(&suite_keys(Some(token)), SUITE_TIME).unwrap();
    let hash = "79893373104239a0547df489af395ec3c1b8873a8601f07f11ffd3f1ac557e7d";
    assert!(is_of_the_suite(example.signature(), hash));
    assert!(example.fields["x-amz-security-token"].is_sensitive());
}

#[test]
fn presigned_urls_for_a_set_of_regions_are_those_of_the_published_suite() {
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    for (token, hash) in [
        (None, "890c4ed28c1a1ac10b5862719b537afbe392e987dc1aab1efa16fe7de41d3c81"),
        (Some(token), "496062b4c2ed2175fe08ad084158783fa8d013c694542af721d49b25d1ebd390"),
    ] {
        let path = "/?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Credential=AKIAkwph%2F20150830%2Fservice%2Faws4_request\
                    &X-Amz-Date=20150830T123600Z&X-Amz-Expires=3600&X-Amz-Region-Set=us-east-1&X-Amz-SignedHeaders=host\
                    &X-Amz-Signature=00";
        let mut example = of_suite(path, &[], b"");
        let signed = example.sign_at(&suite_keys(token), "2026-01-01T00:00:00Z").unwrap();
        let path = signed.path.unwrap();
        let (head, signature) = path.split_once("&X-Amz-Signature=").unwrap();
        assert!(is_of_the_suite(signature, hash), "{path}");
        assert!(head.contains("&X-Amz-Region-Set=us-east-1&") && !head.contains("kwph"), "{path}");
        assert_eq!(head.contains("X-Amz-Security-Token"), token.is_some());
    }
}

#[test]
fn an_unsigned_request_to_a_host_of_several_regions_is_signed_for_all() {
    let host = "m1.mrap.accesspoint.s3-global.amazonaws.com";
    let mut example = Example { host, ..s3("GET", "/a", &[]) };
    example.sign(&keys()).unwrap();
    assert_eq!(example.fields["x-amz-region-set"], "*");
    let value = example.fields["authorization"].to_str().unwrap();
    let credential =
        "AWS4-ECDSA-P256-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/s3/aws4_request,";
    assert!(value.starts_with(credential), "{value}");
}
