//! A customer's AWS account on the emulator, another one than that of the service: a bucket, and roles.

use aws_config::BehaviorVersion;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use serde_json::{Value, json};
use uuid::Uuid;

/// An account of its own, with one bucket.
#[derive(Debug)]
pub struct Customer {
    /// The number of the account.
    pub account: String,
    /// The name of the bucket.
    pub bucket: String,
    /// S3 as the root user of the account has it.
    pub s3: aws_sdk_s3::Client,
    http: reqwest::Client,
    endpoint: String,
}

impl Customer {
    /// A new account, and a bucket in it.
    ///
    /// # Panics
    /// When there is no emulator at `AWS_ENDPOINT_URL`.
    pub async fn new() -> Customer {
        let random = Uuid::new_v4();
        let account = format!(
            "{:012}",
            100_000_000_000 + random.as_u128() % 800_000_000_000
        );
        let (s3, endpoint) = s3_as(Credentials::new(&account, "root", None, None, "test")).await;
        let bucket = format!("exports-{}", random.simple());
        let create = s3.create_bucket().bucket(&bucket);
        create.send().await.expect("the bucket is made");
        Customer {
            account,
            bucket,
            s3,
            http: reqwest::Client::new(),
            endpoint,
        }
    }

    /// The ARN of a role of this account, there or not.
    pub fn role_arn(&self, name: &str) -> String {
        format!("arn:aws:iam::{}:role/{name}", self.account)
    }

    /// A trust policy for `principal`, on condition of an external id where one is given.
    pub fn trust(principal: &str, external_id: Option<&str>) -> Value {
        let mut statement =
            json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"});
        if let Some(external_id) = external_id {
            statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": external_id}});
        }
        json!({"Version": "2012-10-17", "Statement": [statement]})
    }

    /// A role that may do everything with S3, so that only its session limits what is done with it.
    pub async fn create_role(&self, name: &str, trust: &Value) {
        let trust = trust.to_string();
        let form = [
            ("Action", "CreateRole"),
            ("RoleName", name),
            ("AssumeRolePolicyDocument", &trust),
        ];
        self.iam(&form).await;
        let allowed = json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"});
        let policy = json!({"Version": "2012-10-17", "Statement": [allowed]}).to_string();
        let form = [
            ("Action", "PutRolePolicy"),
            ("RoleName", name),
            ("PolicyName", "s3"),
            ("PolicyDocument", &policy),
        ];
        self.iam(&form).await;
    }

    /// Gives a role another trust policy.
    pub async fn trust_anew(&self, name: &str, trust: &Value) {
        let trust = trust.to_string();
        let form = [
            ("Action", "UpdateAssumeRolePolicy"),
            ("RoleName", name),
            ("PolicyDocument", &trust),
        ];
        self.iam(&form).await;
    }

    /// A call of IAM as the root user, whose signature the emulator does not check: the SDK of IAM would be compiled for
    /// minutes.
    async fn iam(&self, form: &[(&str, &str)]) {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0",
            self.account
        );
        let request = self
            .http
            .post(&self.endpoint)
            .header("authorization", authorization)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(
                body.extend_pairs(form)
                    .append_pair("Version", "2010-05-08")
                    .finish(),
            );
        let answer = request.send().await.expect("IAM answers");
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        assert!(status.is_success(), "{status}: {text}");
    }

    /// Keys and texts of the files in the bucket, by key.
    pub async fn files(&self) -> Vec<(String, String)> {
        let list = self.s3.list_objects_v2().bucket(&self.bucket).send().await;
        let mut files = Vec::new();
        for object in list.expect("the bucket is listed").contents() {
            let key = object.key().unwrap_or_default();
            let get = self.s3.get_object().bucket(&self.bucket).key(key);
            let body = get.send().await.expect("the file is there").body;
            let bytes = body.collect().await.expect("the file is read").into_bytes();
            files.push((key.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        }
        files.sort();
        files
    }
}

/// S3 with these credentials, and where it is.
pub async fn s3_as(credentials: Credentials) -> (aws_sdk_s3::Client, String) {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let endpoint = config
        .endpoint_url()
        .expect("AWS_ENDPOINT_URL is set")
        .to_owned();
    let config = aws_sdk_s3::config::Builder::from(&config)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .force_path_style(true)
        .build();
    (aws_sdk_s3::Client::from_conf(config), endpoint)
}
