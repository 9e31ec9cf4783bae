"""Faults, one each, planted into manifests that have none: what is replaced by what, and the rule that is to find it."""

from dataclasses import dataclass
from pathlib import Path

from drain._doctor import examine
from drain._doctor.model import Surroundings, Thing
from drain._doctor.reading import documents

GOOD = Path(__file__).parent / "good"


def judged(text: str, source: str = "it.yaml") -> examine.Examined:
    """What the doctor says of manifests."""
    found, bad = documents(text, source)
    return examine.manifests(Surroundings(tuple(map(Thing, found))), bad)


@dataclass(frozen=True)
class Plant:
    """`old` is there once; `new` takes its place. `line`: a piece of the line that is to be named; "": whatever is."""

    rule: str
    manifest: str
    old: str
    new: str
    line: str = ""

    def text(self) -> str:
        whole = (GOOD / self.manifest).read_text()
        assert whole.count(self.old) == 1, (self.rule, self.manifest, self.old, whole.count(self.old))
        return whole.replace(self.old, self.new)


HOOK = """        lifecycle:
          preStop:
            sleep:
              seconds: 15
"""
READINESS = """        readinessProbe:
          grpc:
            port: 8080
          periodSeconds: 2
"""
STANDALONE_HOOK = (
    "preStop: {exec: {command: [/opt/drain/bin/drain-prestop, --standalone, --timeout, 20s, --settle=3s]}}"
)
PLANTED = (
    # The budget.
    Plant(
        "grace-too-short",
        "drain-server.yaml",
        '{name: DRAIN_TERMINATION_GRACE_PERIOD, value: "60"}',
        '{name: DRAIN_DRAIN_TIMEOUT, value: "55"}',
        "Seconds: 60",
    ),
    Plant(
        "grace-too-short",
        "alb.yaml",
        'GRACE_PERIOD, value: "90"',
        'GRACE_PERIOD, value: "none"}\n            - {name: DRAIN_DRAIN_TIMEOUT, value: "60"',
    ),
    Plant("grace-too-short", "daemonset.yaml", "value: 15s", "value: 55s"),
    Plant("grace-unlike", "drain-server.yaml", 'PERIOD, value: "60"', 'PERIOD, value: "90"', 'value: "90"'),
    Plant(
        "grace-unlike",
        "alb.yaml",
        "terminationGracePeriodSeconds: 90",
        "terminationGracePeriodSeconds: 120",
        'value: "90"',
    ),
    Plant(
        "prestop-too-long",
        "sleep.yaml",
        "              seconds: 15",
        "              seconds: 60",
        "terminationGracePeriodSeconds: 45",
    ),
    Plant("prestop-too-long", "statefulset.yaml", '"sleep 20"', '"sleep 2m"'),
    Plant("prestop-too-long", "standalone.yaml", "--timeout, 20s", "--timeout, 60s"),
    Plant("prestop-too-short", "sleep.yaml", "seconds: 15", "seconds: 1", "preStop:"),
    # How it is stopped.
    Plant("prestop-missing", "sleep.yaml", HOOK, ""),
    Plant("prestop-missing", "standalone.yaml", STANDALONE_HOOK, "postStart: {exec: {command: [touch, /tmp/started]}}"),
    Plant(
        "announces-nothing",
        "drain-server.yaml",
        '{name: DRAIN_MAX_CONNECTION_AGE, value: "10m"}',
        '{name: DRAIN_ANNOUNCE_TIMEOUT, value: "0"}',
    ),
    Plant(
        "prestop-sleep-with-drain",
        "drain-server.yaml",
        "          readinessProbe",
        "          lifecycle: {preStop: {sleep: {seconds: 0}}}\n          readinessProbe",
    ),
    Plant("shell-pid1", "sleep.yaml", "&& exec python", "&& python", 'command: ["/bin/sh"'),
    Plant(
        "shell-pid1", "daemonset.yaml", '"python -m agent --port 50051"', '"python -m agent --port 50051 | tee /log"'
    ),
    Plant("shell-pid1", "statefulset.yaml", "args: [python, ledger.py]", "args: [sh, -c, 'python ledger.py']", "args:"),
    Plant(
        "stop-signal",
        "drain-server.yaml",
        "          readinessProbe",
        "          lifecycle: {stopSignal: SIGINT}\n          readinessProbe",
        "SIGINT",
    ),
    Plant("no-runtime-dir", "drain-server.yaml", "mountPath: /tmp", "mountPath: /data"),
    # Probes.
    Plant("readiness-missing", "sleep.yaml", READINESS, ""),
    Plant("readiness-missing", "list.json", '"readinessProbe": {"grpc": {"port": 8444}},', ""),
    Plant(
        "readiness-tcp",
        "alb.yaml",
        "readinessProbe: {grpc: {port: 50051}}",
        "readinessProbe: {tcpSocket: {port: grpc}}",
    ),
    Plant(
        "readiness-asks-liveness",
        "drain-server.yaml",
        "readinessProbe: {grpc: {port: 50051}",
        "readinessProbe: {grpc: {port: 50051, service: liveness}",
    ),
    Plant(
        "liveness-asks-readiness",
        "drain-server.yaml",
        "livenessProbe: {grpc: {port: 50051, service: liveness}}",
        "livenessProbe: {grpc: {port: 50051}}",
    ),
    Plant(
        "probe-port",
        "chart-output.yaml",
        "readinessProbe: {httpGet: {path: /ready, port: 8081}}",
        "readinessProbe: {httpGet: {path: /ready, port: http}}",
    ),
    # Rights.
    Plant("rbac-missing", "drain-server.yaml", "  - {kind: ServiceAccount, name: orders, namespace: shop}\n", ""),
    Plant("rbac-missing", "drain-server.yaml", "verbs: [list, watch]", "verbs: [get, list]"),
    Plant("rbac-missing", "standalone.yaml", "resources: [endpointslices, endpoints]", "resources: [endpoints]"),
    Plant(
        "token-not-mounted",
        "standalone.yaml",
        "metadata: {name: search}\n---\napiVersion: rbac",
        "metadata: {name: search}\nautomountServiceAccountToken: false\n---\napiVersion: rbac",
    ),
    # Rollouts.
    Plant("single-replica", "drain-server.yaml", "minReplicas: 3", "minReplicas: 1", "minReplicas: 1"),
    Plant("all-at-once", "sleep.yaml", "  replicas: 3\n", "  replicas: 3\n  strategy: {type: Recreate}\n", "Recreate"),
    Plant("all-at-once", "drain-server.yaml", "maxUnavailable: 0,", "maxUnavailable: 100%,"),
    Plant("all-at-once", "daemonset.yaml", "maxUnavailable: 1", "maxUnavailable: 100%"),
    Plant(
        "replicas-and-autoscaler",
        "drain-server.yaml",
        "spec:\n  strategy:",
        "spec:\n  replicas: 3\n  strategy:",
        "replicas: 3",
    ),
    Plant("budget-blocks", "sleep.yaml", "minAvailable: 2", "minAvailable: 3", "minAvailable: 3"),
    Plant("budget-blocks", "alb.yaml", "spec: {maxUnavailable: 1,", "spec: {maxUnavailable: 0,"),
    # Services, load balancers, meshes.
    Plant(
        "session-affinity",
        "sleep.yaml",
        "  selector:\n    app: pricing\n  ports:",
        "  sessionAffinity: ClientIP\n  selector:\n    app: pricing\n  ports:",
        "ClientIP",
    ),
    Plant(
        "publishes-not-ready",
        "statefulset.yaml",
        "  clusterIP: None\n",
        "  clusterIP: None\n  publishNotReadyAddresses: true\n",
    ),
    Plant("service-port", "sleep.yaml", "targetPort: grpc-api", "targetPort: grpc", "targetPort: grpc"),
    Plant("deregistration-delay", "alb.yaml", "timeout_seconds=60", "timeout_seconds=5"),
    Plant("istio-drain", "istio.yaml", "          terminationDrainDuration: 40s\n", ""),
    Plant("istio-drain", "istio.yaml", "terminationDrainDuration: 40s", "terminationDrainDuration: 20s"),
    Plant("linkerd-wait", "linkerd.yaml", '        config.alpha.linkerd.io/proxy-wait-before-exit-seconds: "30"\n', ""),
    Plant("linkerd-wait", "linkerd.yaml", 'seconds: "30"', 'seconds: "60"'),
    # Settings.
    Plant("bad-setting", "drain-server.yaml", 'AGE, value: "10m"', 'AGE, value: "10 minutes"'),
    Plant(
        "unknown-setting",
        "drain-server.yaml",
        "{name: DRAIN_MAX_CONNECTION_AGE,",
        "{name: DRAIN_MAX_CONECTION_AGE,",
        "CONECTION",
    ),
    Plant(
        "age-grace-cuts",
        "drain-server.yaml",
        '{name: DRAIN_MAX_CONNECTION_AGE, value: "10m"}',
        '{name: DRAIN_MAX_CONNECTION_AGE_GRACE, value: "5s"}',
    ),
    Plant(
        "too-many-pings", "drain-server.yaml", "KEEPALIVE_TIME, value: 5m", "KEEPALIVE_TIME, value: 30s", "value: 30s"
    ),
    Plant("keepalive-never-acts", "drain-server.yaml", "KEEPALIVE_TIME, value: 5m", "KEEPALIVE_TIME, value: 11m"),
    # Advice, and slips of the pen that bring another rule with them.
    Plant("budget-missing", "linkerd.yaml", "kind: PodDisruptionBudget", "kind: PodDisruptionBudgets"),
)
