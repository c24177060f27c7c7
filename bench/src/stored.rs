//! What the canned services hold, and what they count: request units as DynamoDB bills them, requests of SQS, webhooks, files.

use std::collections::{BTreeMap, HashMap};
use std::sync::MutexGuard;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use crc_fast::{CrcAlgorithm, Digest, checksum};
use domain::integration::Integration;
use serde_json::{Value, json};

/// Begins the sort key of an integration; its id follows.
const INTEGRATION: &str = "integration#";

/// An exchange of a function's, by its sizes in bytes: bodies alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    /// What the function sent.
    pub request: usize,
    /// What it was answered.
    pub response: usize,
}

/// What is stored, and what was asked for.
#[derive(Default)]
pub struct Stored {
    /// Integrations by their sort keys: document and version.
    integrations: BTreeMap<String, (String, String)>,
    /// The messages of each queue that were not taken, by the last part of its URL.
    queues: HashMap<String, Vec<String>>,
    /// How often each event was posted.
    pub webhooks: HashMap<String, usize>,
    /// Requests of the receiver's that are under way.
    pub busy: usize,
    /// The most of these.
    pub most: usize,
    /// What was uploaded.
    pub uploads: Uploads,
    /// What DynamoDB, SQS and the receiver were asked since the last look.
    pub exchanges: Vec<Exchange>,
    /// What is billed.
    pub billed: Billed,
}

/// What AWS bills.
#[derive(Clone, Copy, Debug, Default)]
pub struct Billed {
    /// Write units of all tables.
    pub write_units: usize,
    /// Read units of the event log.
    pub log_read_units: usize,
    /// Other read units, as for consistent reads.
    pub other_read_units: usize,
    /// Requests of SQS: sends, and changes of visibility. Lambda's receives and deletes come on top.
    pub sqs_requests: usize,
}

/// The files of an export.
pub struct Uploads {
    /// How many.
    pub files: usize,
    /// The size of all of them.
    pub bytes: usize,
    all: Digest,
}

impl Default for Uploads {
    fn default() -> Uploads {
        Uploads {
            files: 0,
            bytes: 0,
            all: Digest::new(CrcAlgorithm::Crc64Nvme),
        }
    }
}

impl Uploads {
    /// Takes a file in.
    ///
    /// # Panics
    /// When its checksum is not the one that its request states: a CRC-64, and a CRC-32 in builds before that.
    pub fn take(&mut self, body: &[u8], crc64: Option<&str>, crc32: Option<&str>) {
        let (stated, actual) = match crc64 {
            Some(crc64) => {
                let actual = checksum(CrcAlgorithm::Crc64Nvme, body);
                (Some(crc64), BASE64_STANDARD.encode(actual.to_be_bytes()))
            }
            None => {
                let actual = checksum(CrcAlgorithm::Crc32IsoHdlc, body) as u32;
                (crc32, BASE64_STANDARD.encode(actual.to_be_bytes()))
            }
        };
        assert_eq!(stated, Some(actual.as_str()));
        self.files += 1;
        self.bytes += body.len();
        self.all.update(body);
    }

    /// The CRC-64 of all files, one behind the other.
    pub fn crc64(&self) -> u64 {
        self.all.finalize()
    }
}

impl Stored {
    /// Holds these integrations.
    ///
    /// # Panics
    /// When one cannot be written as JSON.
    pub fn new(integrations: &[Integration]) -> Stored {
        let stored = integrations.iter().map(|integration| {
            let document = serde_json::to_string(integration).expect("it is JSON");
            let key = format!("{INTEGRATION}{}", integration.id);
            (key, (document, integration.version.to_string()))
        });
        Stored {
            integrations: stored.collect(),
            ..Stored::default()
        }
    }

    /// The document of the first integration.
    pub fn document(&self) -> String {
        let first = self.integrations.values().next();
        first
            .map(|(document, _)| document.clone())
            .unwrap_or_default()
    }

    /// Frees the integrations of a step that was killed, so that its time limit need not be waited for.
    pub fn end_lease(&mut self) {
        for (document, _) in self.integrations.values_mut() {
            let mut changed: Value = serde_json::from_str(document).unwrap_or_default();
            changed["target"]["webhook"]["stream"]["duty"]["busy"] = Value::Null;
            *document = changed.to_string();
        }
    }

    /// Takes the messages of a queue.
    pub fn take(&mut self, queue: &str) -> Vec<String> {
        self.queues.remove(queue).unwrap_or_default()
    }

    /// What was counted, for another process.
    pub fn totals(&self) -> Value {
        let repeated: usize = self.webhooks.values().map(|times| times - 1).sum();
        let Billed {
            write_units,
            log_read_units,
            other_read_units,
            sqs_requests,
        } = self.billed;
        json!({
            "events": self.webhooks.len(), "repeated": repeated, "write_units": write_units,
            "log_read_units": log_read_units, "other_read_units": other_read_units,
            "sqs_requests": sqs_requests, "most": self.most,
        })
    }

    /// The answer to an operation of DynamoDB, SQS, KMS or EventBridge; queries of the event log are answered elsewhere.
    pub fn answer(&mut self, operation: &str, request: &Value) -> String {
        match operation {
            "GetItem" => self.get(request["Key"]["sk"]["S"].as_str().unwrap_or_default()),
            "Query" => self.list(request["ExpressionAttributeValues"][":prefix"]["S"].as_str()),
            "PutItem" => {
                self.write(&request["Item"], 1);
                "{}".to_owned()
            }
            "TransactWriteItems" => {
                for item in request["TransactItems"].as_array().into_iter().flatten() {
                    self.write(&item["Put"]["Item"], 2);
                }
                "{}".to_owned()
            }
            "BatchWriteItem" => {
                for writes in request["RequestItems"].as_object().into_iter().flatten() {
                    for write in writes.1.as_array().into_iter().flatten() {
                        self.write(&write["PutRequest"]["Item"], 1);
                    }
                }
                r#"{"UnprocessedItems":{}}"#.to_owned()
            }
            "DeleteItem" | "UpdateItem" => {
                self.billed.write_units += 1;
                "{}".to_owned()
            }
            "SendMessageBatch" => self.send(request),
            "ChangeMessageVisibilityBatch" => {
                self.billed.sqs_requests += 1;
                r#"{"Successful":[],"Failed":[]}"#.to_owned()
            }
            "Decrypt" => {
                let secret = BASE64_STANDARD.encode("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
                json!({"KeyId": "k", "Plaintext": secret, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
                    .to_string()
            }
            "PutEvents" => {
                let entries = request["Entries"].as_array().map_or(0, Vec::len);
                json!({"FailedEntryCount": 0, "Entries": vec![json!({"EventId": ID}); entries]})
                    .to_string()
            }
            _ => "{}".to_owned(),
        }
    }

    fn get(&mut self, key: &str) -> String {
        let Some((document, version)) = self.integrations.get(key) else {
            self.billed.other_read_units += 1;
            return "{}".to_owned();
        };
        self.billed.other_read_units += document.len().div_ceil(4096);
        json!({"Item": item(key, document, version)}).to_string()
    }

    fn list(&mut self, prefix: Option<&str>) -> String {
        let found = self.integrations.iter();
        let found = found.filter(|(key, _)| prefix.is_some_and(|prefix| key.starts_with(prefix)));
        let items: Vec<Value> = found
            .map(|(key, (document, version))| item(key, document, version))
            .collect();
        let bytes: usize = items.iter().map(|item| item.to_string().len()).sum();
        self.billed.other_read_units += bytes.div_ceil(4096).max(1);
        json!({"Count": items.len(), "ScannedCount": items.len(), "Items": items}).to_string()
    }

    /// An item is written, or deleted where there is none.
    fn write(&mut self, item: &Value, times: usize) {
        let sizes = item.as_object().into_iter().flatten();
        let bytes: usize = sizes
            .map(|(name, value)| name.len() + value.to_string().len() - 8)
            .sum();
        self.billed.write_units += bytes.div_ceil(1024).max(1) * times;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = text(&item["sk"]["S"]);
        if let Some(stored) = self.integrations.get_mut(&key) {
            *stored = (text(&item["document"]["S"]), text(&item["version"]["N"]));
        }
    }

    fn send(&mut self, request: &Value) -> String {
        self.billed.sqs_requests += 1;
        let url = request["QueueUrl"].as_str().unwrap_or_default();
        let queue = url.rsplit('/').next().unwrap_or_default().to_owned();
        let messages = self.queues.entry(queue).or_default();
        let mut sent = Vec::new();
        for entry in request["Entries"].as_array().into_iter().flatten() {
            messages.push(entry["MessageBody"].as_str().unwrap_or_default().to_owned());
            sent.push(json!({"Id": entry["Id"], "MessageId": ID, "MD5OfMessageBody": MD5}));
        }
        json!({"Successful": sent, "Failed": []}).to_string()
    }
}

const ID: &str = "219f8380-5770-4cc2-8c3e-5c715e145f5e";
const MD5: &str = "fafb00f5732ab283681e124bf8747ed1";

fn item(key: &str, document: &str, version: &str) -> Value {
    json!({
        "pk": {"S": crate::corpus::TENANT}, "sk": {"S": key}, "generation": {"S": "01HF7YAT000000000000000007"},
        "document": {"S": document}, "version": {"N": version},
    })
}

/// Locks what no one can have left half done.
pub fn lock<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
