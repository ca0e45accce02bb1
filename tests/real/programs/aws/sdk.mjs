// What programs do with version 3 of the SDK for JavaScript: objects, an upload in parts, a presigned URL, an access point of
// several regions, and who one is.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.NODE_MODULES + "/");
const s3 = require("@aws-sdk/client-s3");
const sts = require("@aws-sdk/client-sts");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");
require("@aws-sdk/signature-v4a");

const client = new s3.S3Client({ region: "us-east-1" });
const name = "a b+c/ü ~(1)=&.txt";
const read = async (Bucket, Key) =>
  Buffer.from(await (await client.send(new s3.GetObjectCommand({ Bucket, Key }))).Body.transformToByteArray());

await client.send(new s3.CreateBucketCommand({ Bucket: "photos" }));
await client.send(new s3.PutObjectCommand({ Bucket: "photos", Key: name, Body: "hello", Metadata: { who: "me  too" } }));
assert.equal((await read("photos", name)).toString(), "hello");
const listed = await client.send(new s3.ListObjectsV2Command({ Bucket: "photos", Prefix: "a b+c/" }));
assert.equal(listed.Contents[0].Key, name);

const whole = Buffer.alloc(11_776_000, "0123456789abcdef");
const upload = new Upload({ client, params: { Bucket: "photos", Key: "large", Body: whole }, partSize: 5 << 20 });
assert.match((await upload.done()).ETag, /-3"$/, "in parts");
assert.deepEqual(await read("photos", "large"), whole);

const url = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket: "photos", Key: name }), { expiresIn: 600 });
assert.ok(url.includes("kwph"), "signed with the placeholder");
assert.equal(await (await fetch(url)).text(), "hello");

const point = "arn:aws:s3::123456789012:accesspoint/m1abc.mrap";
await client.send(new s3.PutObjectCommand({ Bucket: point, Key: name, Body: "hello" }));
assert.equal((await read(point, name)).toString(), "hello");

const identity = new sts.STSClient({ region: "eu-west-1" });
assert.ok((await identity.send(new sts.GetCallerIdentityCommand({}))).Arn);
const role = { RoleArn: "arn:aws:iam::123456789012:role/r", RoleSessionName: "session" };
const failed = await identity.send(new sts.AssumeRoleCommand(role)).catch((error) => error);
const refusal = failed.$response ?? failed;
console.log("refused:", refusal.statusCode ?? failed.$metadata?.httpStatusCode, failed.name);
console.log("answer: fine");
