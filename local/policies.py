"""Least privilege, held against a written table: who may do what to which resource, and what every deployment must have.

    .venv/tools/bin/python local/policies.py

Reads template.yaml. Prints nothing and ends with 0 when the template is what the table says. Each rule is also tried on a
template that breaks it: a rule that lets that pass fails the run.
"""

import copy
import re
import sys
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"

# A worker takes messages from its queue and gives its logs away, and that is all that all of them do.
RECEIVE = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"]
LOG = ["logs:CreateLogStream", "logs:PutLogEvents"]
ITEMS = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem", "dynamodb:Query"]

# Tenants' roles: the one resource without an ARN, since their accounts are not known. Only with an external id, and none of the
# account's own, which might trust every role of it.
ROLES = "arn:${AWS::Partition}:iam::*:role/*"
CONDITIONS = {ROLES: {"Null": {"sts:ExternalId": "false"}}}
DENIED = {"ExportRole": [{"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/*"}}]}

# Actions that AWS gives on no resource of its own (actions.py).
BOUND_TO_ALL = {"dynamodb:ListStreams"}

# What every function may with Traces=true, and none without.
TRACES = {
    "Fn::If": [
        "HasTraces",
        {"Effect": "Allow", "Action": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "Resource": "*"},
        {"Ref": "AWS::NoValue"},
    ]
}

# Role -> resource -> actions. "DECRYPT_IF_SHOWN" means kms:Decrypt where SecretsInResponses=plain asks for it.
ALLOWED = {
    # Encrypts, and shows masks that are stored with the ciphertext; reads no queue, but sees whether they are empty; of the event log
    # what a tenant previews or looks up.
    "ApiRole": {
        "IntegrationsTable": [*ITEMS, "dynamodb:UpdateItem"],
        "EventsTable": ["dynamodb:Query"],
        "IngestQueue": ["sqs:SendMessage", "sqs:GetQueueAttributes"],
        "DeliveryQueue": ["sqs:GetQueueAttributes"],
        "IngestDeadLetterQueue": ["sqs:GetQueueAttributes"],
        "DeliveryDeadLetterQueue": ["sqs:GetQueueAttributes"],
        "ReplayQueue": ["sqs:SendMessage"],
        "SecretsKey": ["kms:Encrypt", "DECRYPT_IF_SHOWN"],
        "DeliveryFunction": ["lambda:InvokeFunction"],  # rejected events are tried again there, and receivers tested, where keys may be
        "ExportFunction": ["lambda:InvokeFunction"],  # decrypted; and there buckets are tested
        "ApiLogGroup": LOG,
    },
    # Appends and routes: never reads the log, never touches an integration, no secrets.
    "IngestRole": {
        "EventsTable": ["dynamodb:PutItem"],
        "IntegrationsTable": ["dynamodb:Query"],
        "DeliveryQueue": ["sqs:SendMessage"],
        "IngestDeadLetterQueue": ["sqs:SendMessage"],
        "IngestQueue": RECEIVE,
        "IngestLogGroup": LOG,
    },
    # Calls receivers with their keys. Never encrypts: it cannot give an integration another secret.
    "DeliveryRole": {
        "IntegrationsTable": [*ITEMS, "dynamodb:UpdateItem", "dynamodb:BatchWriteItem"],
        "DeliveryQueue": RECEIVE,
        "ReplayQueue": ["sqs:SendMessage"],
        "DeliveryDeadLetterQueue": ["sqs:SendMessage"],
        "SecretsKey": ["kms:Decrypt"],
        "DeliveryLogGroup": LOG,
    },
    # Reads the log, and calls receivers with their keys, as delivery does.
    "ReplayRole": {
        "IntegrationsTable": [*ITEMS, "dynamodb:UpdateItem", "dynamodb:BatchWriteItem"],
        "IntegrationsTable/index/wake": ["dynamodb:Query"],
        "EventsTable": ["dynamodb:GetItem", "dynamodb:Query"],
        "ReplayQueue": [*RECEIVE, "sqs:SendMessage"],
        "ReplayDeadLetterQueue": ["sqs:SendMessage"],
        "SecretsKey": ["kms:Decrypt"],
        "ReplayLogGroup": LOG,
    },
    # Reads the log. Nothing of S3: files are written with the key of the tenant, or through its role.
    "ExportRole": {
        "IntegrationsTable": ITEMS,
        "IntegrationsTable/index/exports": ["dynamodb:Query"],
        "EventsTable": ["dynamodb:Query"],
        "ExportQueue": [*RECEIVE, "sqs:SendMessage"],
        "ExportDeadLetterQueue": ["sqs:SendMessage"],
        "SecretsKey": ["kms:Decrypt"],
        ROLES: ["sts:AssumeRole"],
        "ExportLogGroup": LOG,
    },
    # Reads what changes, and publishes it. Neither reads nor writes tables and queues.
    "NotifyRole": {
        "IntegrationsTable.StreamArn": ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
        "*": ["dynamodb:ListStreams"],
        "EventBus": ["events:PutEvents"],
        "NotifyLogGroup": LOG,
    },
    "SchedulerRole": {
        "ExportFunction": ["lambda:InvokeFunction"],
        "ReplayFunction": ["lambda:InvokeFunction"],
    },
}

# Who may take a role, and what may reach the API without a token.
ASSUMED_BY = {role: "lambda.amazonaws.com" for role in ALLOWED} | {"SchedulerRole": "scheduler.amazonaws.com"}
WITHOUT_TOKEN = {"GET /health", "GET /openapi.json", "GET /console", "GET /console/{proxy+}"}

# Whose messages invoke them again, with guards of their own. Elsewhere Lambda's detection of loops stays: a loop is a fault there.
FEEDS_ITSELF = {"ReplayFunction"}

# Who else may send to a queue: the bus's rule.
SENDERS = {"IngestQueue": "events.amazonaws.com", "IngestDeadLetterQueue": "events.amazonaws.com"}


# What the stack takes over in place of what it makes.
ADOPTED = {
    "IntegrationsTable": {"Fn::Select": [0, {"Fn::Split": ["/stream/", {"Ref": "IntegrationsTableStreamArn"}]}]},
    "IntegrationsTable.StreamArn": {"Ref": "IntegrationsTableStreamArn"},
    "EventsTable": {"Ref": "EventsTableArn"},
    "SecretsKey": {"Ref": "SecretsKeyArn"},
}


def values(value) -> list:
    return value if isinstance(value, list) else [value]


def resource(value) -> str:
    """`!GetAtt X.Arn` and `!Sub ${X.Arn}/index/i` as X and X/index/i; so is a choice between what the stack makes and what it takes
    over, where both say the same of one table or key. Anything else as it is."""
    if isinstance(value, dict) and "Fn::If" in value:
        condition, made, adopted = value["Fn::If"]
        made = resource(made)
        stem, _, index = made.partition("/")
        said = ADOPTED.get(stem)
        if index:
            said = {"Fn::Join": ["", [said, f"/{index}"]]}
        return made if (condition, adopted) == (f"Makes{stem.split('.')[0]}", said) else str(value)
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        name, attribute = value["Fn::GetAtt"]
        return name if attribute == "Arn" else f"{name}.{attribute}"
    if isinstance(value, dict) and "Fn::Sub" in value:
        return re.sub(r"\$\{(\w+)\.Arn\}", r"\1", str(value["Fn::Sub"]))
    return str(value)


def granted(role: dict, shows_secrets: bool, denied: list) -> tuple[dict, list[str], int]:
    """What a role's policies grant, as resource -> actions, what is wrong with how they say it, and how often they let it trace."""
    found, wrong, denied = {}, [], list(denied)
    traces = [statement for policy in role.get("Policies", []) for statement in values(policy["PolicyDocument"]["Statement"]) if statement == TRACES]
    for key in ("ManagedPolicyArns", "PermissionsBoundary"):
        if key in role:
            wrong.append(f"has {key}: what it may do has to be in the template")
    for policy in role.get("Policies", []):
        for statement in values(policy["PolicyDocument"]["Statement"]):
            if statement == TRACES:
                continue
            if statement in denied:
                denied.remove(statement)
                continue
            if statement.get("Effect") != "Allow" or not {"Action", "Resource"} <= statement.keys():
                wrong.append(f"has a statement that this check cannot read: {statement}")
                continue
            actions = statement["Action"]
            if isinstance(actions, dict) and "Fn::If" in actions:
                condition, when, otherwise = actions["Fn::If"]
                if condition != "ShowsSecrets":
                    wrong.append(f"depends on the condition {condition}")
                actions = when if shows_secrets else otherwise
            for action in values(actions):
                for name in map(resource, values(statement["Resource"])):
                    if statement.get("Condition") != CONDITIONS.get(name):
                        wrong.append(f"allows {action} on {name} on the condition {statement.get('Condition')}, not {CONDITIONS.get(name)}")
                    if "*" in action or ("*" in name and name != ROLES and action not in BOUND_TO_ALL):
                        wrong.append(f"allows {action} on {name}: no wildcards")
                    found.setdefault(name, set()).add(action)
    wrong += [f"does not say: {statement}" for statement in denied]
    return found, wrong, len(traces)


def roles(resources: dict) -> list[str]:
    wrong = []
    there = {name: it["Properties"] for name, it in resources.items() if it["Type"] == "AWS::IAM::Role"}
    for name in there.keys() ^ ALLOWED.keys():
        wrong.append(f"{name} is either in the template or in the table, not in both")
    for name in there.keys() & ALLOWED.keys():
        for shows_secrets in (False, True):
            found, problems, traces = granted(there[name], shows_secrets, DENIED.get(name, []))
            wrong += [f"{name} {it}" for it in problems]
            if traces != (0 if name == "SchedulerRole" else 1):
                wrong.append(f"{name} may write traces {traces} times")
            decrypt = {"kms:Decrypt"} if shows_secrets else set()
            expected = {it: set(actions) - {"DECRYPT_IF_SHOWN"} | (decrypt if "DECRYPT_IF_SHOWN" in actions else set()) for it, actions in ALLOWED[name].items()}
            for it in sorted(found.keys() | expected.keys()):
                more = found.get(it, set()) - expected.get(it, set())
                less = expected.get(it, set()) - found.get(it, set())
                wrong += [f"{name} may {action} on {it}, which the table does not allow" for action in sorted(more)]
                wrong += [f"{name} may not {action} on {it}, which the table says it needs" for action in sorted(less)]
        for statement in there[name]["AssumeRolePolicyDocument"]["Statement"]:
            if statement["Principal"] != {"Service": ASSUMED_BY[name]} or statement["Action"] != "sts:AssumeRole":
                wrong.append(f"{name} can be taken by {statement['Principal']}")
    return wrong


def functions(resources: dict) -> list[str]:
    wrong = []
    for name, it in resources.items():
        if it["Type"] != "AWS::Serverless::Function":
            continue
        stem, properties = name.removesuffix("Function"), it["Properties"]
        if properties.get("Role") != {"Fn::GetAtt": [f"{stem}Role", "Arn"]} or "Policies" in properties:
            wrong.append(f"{name} has another role than {stem}Role, or further policies")
        if properties.get("LoggingConfig") != {"LogGroup": {"Ref": f"{stem}LogGroup"}}:
            wrong.append(f"{name} does not log to {stem}LogGroup")
        if (properties.get("RecursiveLoop") == "Allow") != (name in FEEDS_ITSELF):
            wrong.append(f"{name} {'has to' if name in FEEDS_ITSELF else 'must not'} allow recursive loops")
        if "ReservedConcurrentExecutions" not in properties:
            wrong.append(f"{name} has no ReservedConcurrentExecutions: it could take all of the account's")
    return wrong


def denies_plain_http(document: dict, service: str, name) -> bool:
    """Whether a policy refuses everything that comes over plain HTTP, from anyone."""
    wanted = {"Effect": "Deny", "Principal": "*", "Action": f"{service}:*", "Resource": name, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    return any({key: it for key, it in statement.items() if key != "Sid"} == wanted for statement in document["Statement"])


def encryption(resources: dict) -> list[str]:
    wrong = []
    policies = [it["Properties"] for it in resources.values() if it["Type"] == "AWS::SQS::QueuePolicy"]
    for name, it in resources.items():
        properties = it.get("Properties", {})
        if it["Type"] == "AWS::SQS::Queue":
            own = [policy["PolicyDocument"] for policy in policies if {"Ref": name} in policy["Queues"]]
            # In the policy of a queue, "*" is that queue.
            if not any(denies_plain_http(document, "sqs", resource) for document in own for resource in ("*", {"Fn::GetAtt": [name, "Arn"]})):
                wrong.append(f"{name} takes plain HTTP")
            for document in own:
                for statement in document["Statement"]:
                    if statement["Effect"] == "Allow" and not (
                        statement["Principal"] == {"Service": SENDERS.get(name)} and statement["Action"] == "sqs:SendMessage" and statement["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["IngestRule", "Arn"]}}}
                    ):
                        wrong.append(f"{name} allows {statement['Action']} to {statement['Principal']}")
            if not properties.get("SqsManagedSseEnabled"):
                wrong.append(f"{name} is not encrypted at rest")
        if it["Type"] == "AWS::DynamoDB::Table":
            # In the policy of a table, "*" is that table: it has no ARN yet when the policy is written.
            if not denies_plain_http(properties.get("ResourcePolicy", {}).get("PolicyDocument", {"Statement": []}), "dynamodb", "*"):
                wrong.append(f"{name} takes plain HTTP")
            # DynamoDB encrypts with a key of its own in any case; with one of ours where it is given.
            if properties.get("SSESpecification", {}).get("Fn::If", [None])[0] != "HasTableKey":
                wrong.append(f"{name} is not encrypted with TableKeyArn where there is one")
            if it.get("DeletionPolicy") != "RetainExceptOnCreate" or it.get("UpdateReplacePolicy") != "Retain":
                wrong.append(f"{name} does not outlive the stack, or stays where its creation fails")
        if it["Type"] == "AWS::KMS::Key" and not properties.get("EnableKeyRotation"):
            wrong.append(f"{name} is not rotated")
        if it["Type"] == "AWS::Logs::LogGroup" and "RetentionInDays" not in properties:
            wrong.append(f"{name} keeps its logs forever")
    return wrong


def ways_in(resources: dict) -> list[str]:
    wrong = []
    for name, it in resources.items():
        properties = it.get("Properties", {})
        if it["Type"] == "AWS::ApiGatewayV2::Route":
            needs_token = properties.get("AuthorizationType") == "JWT" and properties.get("AuthorizerId") == {"Ref": "ApiAuthorizer"}
            if not needs_token and properties["RouteKey"] not in WITHOUT_TOKEN:
                wrong.append(f"{name} ({properties['RouteKey']}) needs no token")
        if it["Type"] == "AWS::ApiGatewayV2::Stage":
            settings = properties.get("DefaultRouteSettings", {})
            if not {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= settings.keys():
                wrong.append(f"{name} is not throttled")
            if properties.get("RouteSettings", {}).keys() != WITHOUT_TOKEN:
                wrong.append(f"{name} does not throttle what needs no token apart")
        # A call of the function itself would go past the canary.
        called = {"AWS::ApiGatewayV2::Integration": "IntegrationUri", "AWS::Lambda::Permission": "FunctionName"}.get(it["Type"])
        if called and properties[called] != {"Ref": "ApiFunction.Alias"}:
            wrong.append(f"{name} does not call the API by its alias")
        if it["Type"] == "AWS::Lambda::Permission" and "SourceArn" not in properties:
            wrong.append(f"{name} lets any caller of {properties['Principal']} in")
    return wrong


def holds(condition, given: dict) -> bool:
    """Whether a condition of a rule holds for these parameters, as CloudFormation evaluates it."""
    ((name, of),) = condition.items()
    if name in ("Fn::And", "Fn::Or"):
        return {"Fn::And": all, "Fn::Or": any}[name](holds(it, given) for it in of)
    listed, value = ([of[1]], of[0]) if name == "Fn::Equals" else of
    return str(given[value["Ref"]]) in map(str, listed)


# What readers go by covers what writers go by, for every pair of values that the template allows.
COVERS = {"EventLogReadShards": "EventLogShards", "ReadSealMillis": "SealMillis"}


def rules(template: dict) -> list[str]:
    wrong, parameters, resources = [], template["Parameters"], template["Resources"]
    assertions = template["Rules"]["ReadersCoverWriters"]["Assertions"]
    defaults = {name: it.get("Default") for name, it in parameters.items()}
    for reads, writes in COVERS.items():
        for read in parameters[reads]["AllowedValues"]:
            for written in parameters[writes]["AllowedValues"]:
                passes = all(holds(it["Assert"], defaults | {reads: read, writes: written}) for it in assertions)
                if passes != (read >= written):
                    wrong.append(f"{reads} {read} with {writes} {written} is {'let pass' if passes else 'refused'}")
    common = template["Globals"]["Function"]["Environment"]["Variables"]
    for name, it in resources.items():
        if it["Type"] != "AWS::Serverless::Function":
            continue
        own = common | it["Properties"].get("Environment", {}).get("Variables", {})
        for variable, (reads, writes) in zip(("EVENT_LOG_SHARDS", "SEAL_MILLIS"), COVERS.items()):
            wanted = {"Ref": writes if name == "IngestFunction" else reads}
            if own.get(variable, wanted) != wanted:
                wrong.append(f"{name} has {variable} from another parameter than {wanted['Ref']}")
    return wrong


# The longest time-out of ingest: domain::stream remembers gaps for as long.
INGEST_TIMEOUT = 30
# The time in which repeats of an event are recognised, in seconds.
REPEAT_WINDOW = 20 * 60


def sizes(template: dict) -> list[str]:
    """What the table of sizes promises: for each of its rows, and for the shares of concurrency."""
    wrong = []
    # AWS keeps 100 of an account's concurrency unreserved.
    limit = 100 + sum(row["Reserved"] for row in template["Mappings"]["Functions"].values())
    if f"a limit of at least {limit} " not in template["Parameters"]["ReservedConcurrency"]["Description"]:
        wrong.append(f"ReservedConcurrency does not say that the account's limit has to be {limit}")
    for name, row in template["Mappings"]["Functions"].items():
        if row.get("BatchSize", 0) > 10 and row.get("BatchWindow") == 0:
            wrong.append(f"{name}: a batch of more than 10 messages needs a window")
    for size, row in template["Mappings"]["Sizes"].items():
        for function in ("Ingest", "Delivery", "Replay", "Export"):
            if row[f"{function}Visibility"] < 6 * row[f"{function}Timeout"]:
                wrong.append(f"{size}: {function}Visibility is less than 6 times {function}Timeout")
            if row[f"{function}Concurrency"] >= template["Mappings"]["Functions"][function]["Reserved"]:
                wrong.append(f"{size}: {function}Concurrency leaves nothing of the function's Reserved")
        if row["IngestTimeout"] > INGEST_TIMEOUT or row["IngestVisibility"] >= REPEAT_WINDOW:
            wrong.append(f"{size}: ingest takes longer than streams and repeats are remembered for")
    return wrong


def check(template: dict) -> list[str]:
    resources = template["Resources"]
    return [*sizes(template), *roles(resources), *functions(resources), *encryption(resources), *ways_in(resources), *rules(template)]


# --- The check is checked: every one of these changes has to be found. ---


def statements(template: dict, role: str) -> list:
    return template["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]


def properties(template: dict, name: str) -> dict:
    return template["Resources"][name]["Properties"]


BREAKS = {
    "a wildcard resource": lambda it: statements(it, "ExportRole")[0].update(Resource="*"),
    "an action on all streams": lambda it: statements(it, "NotifyRole")[0].update(Resource="*"),
    "a wildcard action": lambda it: statements(it, "DeliveryRole")[0].update(Action="dynamodb:*"),
    "roles without an external id": lambda it: next(one for one in statements(it, "ExportRole") if "Condition" in one).pop("Condition"),
    "roles of the own account": lambda it: statements(it, "ExportRole").remove(DENIED["ExportRole"][0]),
    "roles for another function": lambda it: statements(it, "DeliveryRole").append(next(one for one in statements(it, "ExportRole") if "Condition" in one)),
    "a condition on another resource": lambda it: statements(it, "ExportRole")[0].update(Condition={"Bool": {"aws:SecureTransport": "false"}}),
    "the API decrypts": lambda it: statements(it, "ApiRole").append({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": {"Fn::GetAtt": ["SecretsKey", "Arn"]}}),
    "the API reads the delivery queue": lambda it: statements(it, "ApiRole").append({"Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": {"Fn::GetAtt": ["DeliveryQueue", "Arn"]}}),
    "an action less": lambda it: statements(it, "IngestRole").pop(0),
    "everything but": lambda it: statements(it, "IngestRole").append({"Effect": "Allow", "NotAction": "iam:*", "Resource": "x"}),
    "a managed policy": lambda it: properties(it, "ApiRole").update(ManagedPolicyArns=["arn:aws:iam::aws:policy/AdministratorAccess"]),
    "a role that is not in the table": lambda it: it["Resources"].update(OtherRole=copy.deepcopy(it["Resources"]["ApiRole"])),
    "a role for anyone": lambda it: properties(it, "ApiRole")["AssumeRolePolicyDocument"]["Statement"][0].update(Principal="*"),
    "another function's role": lambda it: properties(it, "IngestFunction").update(Role={"Fn::GetAtt": ["ApiRole", "Arn"]}),
    "no reserved concurrency": lambda it: properties(it, "ExportFunction").pop("ReservedConcurrentExecutions"),
    "plain HTTP to a queue": lambda it: properties(it, "OtherQueuesPolicy")["PolicyDocument"]["Statement"].pop(),
    "a queue for anyone": lambda it: properties(it, "OtherQueuesPolicy")["PolicyDocument"]["Statement"].append({"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Condition": {}}),
    "plain HTTP to a table": lambda it: properties(it, "EventsTable").pop("ResourcePolicy"),
    "a table without the key that was given": lambda it: properties(it, "EventsTable").pop("SSESpecification"),
    "a table that goes with its stack": lambda it: it["Resources"]["EventsTable"].update(DeletionPolicy="Delete"),
    "another table than the one that is taken over": lambda it: statements(it, "IngestRole")[0].update(Resource={"Fn::If": ["MakesEventsTable", {"Fn::GetAtt": ["EventsTable", "Arn"]}, {"Ref": "SecretsKeyArn"}]}),
    "a share that the account's limit is not said to hold": lambda it: it["Mappings"]["Functions"]["Api"].update(Reserved=101),
    "an open route at the speed of all others": lambda it: properties(it, "ApiStage")["RouteSettings"].pop("GET /health"),
    "logs forever": lambda it: properties(it, "ApiAccessLogGroup").pop("RetentionInDays"),
    "a route without a token": lambda it: properties(it, "ApiRoute").update(AuthorizationType="NONE"),
    "steps that Lambda takes for a loop": lambda it: properties(it, "ReplayFunction").pop("RecursiveLoop"),
    "a loop that Lambda lets run": lambda it: properties(it, "IngestFunction").update(RecursiveLoop="Allow"),
    "a writer ahead of readers": lambda it: it["Rules"]["ReadersCoverWriters"]["Assertions"][0]["Assert"]["Fn::Or"][2]["Fn::And"][1]["Fn::Contains"][0].append("2"),
    "no rule for seals": lambda it: it["Rules"]["ReadersCoverWriters"]["Assertions"].pop(),
    "a reader that goes by what is written": lambda it: properties(it, "ExportFunction")["Environment"]["Variables"].update(EVENT_LOG_SHARDS={"Ref": "EventLogShards"}),
    "a batch that comes again while it waits": lambda it: it["Mappings"]["Sizes"]["cloud"].update(ReplayVisibility=300),
    "a large batch without a window": lambda it: it["Mappings"]["Functions"]["Ingest"].update(BatchSize=11),
    "an ingest that outlasts gaps": lambda it: it["Mappings"]["Sizes"]["cloud"].update(IngestTimeout=31, IngestVisibility=200),
    "more batches than the function has a share for": lambda it: it["Mappings"]["Sizes"]["cloud"].update(DeliveryConcurrency=225),
    "an API past its canary": lambda it: properties(it, "ApiIntegration").update(IntegrationUri={"Fn::GetAtt": ["ApiFunction", "Arn"]}),
    "a function that cannot be traced": lambda it: statements(it, "ApiRole").remove(TRACES),
    "traces in any case": lambda it: statements(it, "ApiRole").append(TRACES["Fn::If"][1]),
    "no throttling": lambda it: properties(it, "ApiStage").pop("DefaultRouteSettings"),
}


def main() -> int:
    from cfnlint.decode import decode  # here, since actions.py reads the table alone

    template, unreadable = decode(str(TEMPLATE))
    wrong = [str(it) for it in unreadable] or check(template)
    if not wrong:
        for name, breaks in BREAKS.items():
            broken = copy.deepcopy(template)
            breaks(broken)
            if not check(broken):
                wrong.append(f"this check lets pass: {name}")
    for it in wrong:
        print(f"template.yaml: {it}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
