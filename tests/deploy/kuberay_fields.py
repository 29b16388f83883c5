"""KubeRay's own fields of a RayCluster and a RayJob (ray.io/v1, release 1.7), as a JSON Schema that allows no other.

What KubeRay takes over from Kubernetes (pod templates, resources, services) stands here as `KUBERNETES`: those parts
are held against Kubernetes' own schemas. `test_kuberay.py` compares all of it with the published definitions where they
are.
"""

from __future__ import annotations

from typing import Any

KUBERNETES: dict[str, Any] = {"type": ["object", "array"]}
TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
SWITCH = {"type": "boolean"}
NUMBER = {"type": "number"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def several(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def fields(required: tuple[str, ...] = (), /, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_RULES = {"ingressRules": KUBERNETES, "egressRules": KUBERNETES}

CLUSTER = fields(
    ("headGroupSpec",),
    authOptions=fields(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=SWITCH),
    autoscalerOptions=fields(
        args=several(TEXT),
        command=several(TEXT),
        env=KUBERNETES,
        envFrom=KUBERNETES,
        idleTimeoutSeconds=WHOLE,
        image=TEXT,
        imagePullPolicy=TEXT,
        resources=KUBERNETES,
        securityContext=KUBERNETES,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        version=one_of("v1", "v2"),
        volumeMounts=KUBERNETES,
    ),
    enableInTreeAutoscaling=SWITCH,
    gcsFaultToleranceOptions=fields(
        backend=one_of("redis", "rocksdb"),
        externalStorageNamespace=TEXT,
        redisAddress=TEXT,
        redisPassword=fields(value=TEXT, valueFrom=KUBERNETES),
        redisUsername=fields(value=TEXT, valueFrom=KUBERNETES),
        storage=fields(
            accessModes=several(TEXT),
            claimName=TEXT,
            deletionPolicy=one_of("DeleteWithCluster", "Retain"),
            size={"type": ["string", "integer"]},
            storageClassName=TEXT,
            subPath=TEXT,
        ),
    ),
    headGroupSpec=fields(
        ("template",),
        enableIngress=SWITCH,
        headService=KUBERNETES,
        ingressOptions=fields(
            host=TEXT, path=TEXT, pathType=one_of("Exact", "Prefix", "ImplementationSpecific"), tls=KUBERNETES
        ),
        labels=TEXTS,
        rayStartParams=TEXTS,
        resources=TEXTS,
        serviceType=TEXT,
        template=KUBERNETES,
    ),
    headServiceAnnotations=TEXTS,
    historyServerOptions=fields(
        collectorOptions=fields(env=KUBERNETES, image=TEXT, imagePullPolicy=TEXT, resources=KUBERNETES)
    ),
    managedBy=TEXT,
    networkPolicy=fields(
        mode=one_of("DenyAll", "DenyAllIngress", "DenyAllEgress"),
        head=fields(**_RULES),
        worker=fields(**_RULES),
        workerGroups=several(fields(("groupName",), groupName=TEXT, **_RULES)),
    ),
    rayVersion=TEXT,
    suspend=SWITCH,
    tlsOptions=fields(enabled=SWITCH),
    upgradeStrategy=fields(type=one_of("Recreate", "None")),
    workerGroupSpecs=several(
        fields(
            ("groupName", "maxReplicas", "minReplicas", "template"),
            groupName=TEXT,
            idleTimeoutSeconds=WHOLE,
            labels=TEXTS,
            maxReplicas=WHOLE,
            minReplicas=WHOLE,
            numOfHosts=WHOLE,
            priority=WHOLE,
            rayStartParams=TEXTS,
            replicas=WHOLE,
            resources=TEXTS,
            scaleStrategy=fields(workersToDelete=several(TEXT)),
            suspend=SWITCH,
            template=KUBERNETES,
        )
    ),
)

_POLICY = one_of("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone")

JOB = fields(
    activeDeadlineSeconds=WHOLE,
    backoffLimit=WHOLE,
    clusterSelector=TEXTS,
    deletionStrategy=fields(
        deletionRules=several(
            fields(
                ("condition", "policy"),
                condition=fields(
                    jobDeploymentStatus=one_of("Failed"), jobStatus=one_of("SUCCEEDED", "FAILED"), ttlSeconds=WHOLE
                ),
                policy=_POLICY,
            )
        ),
        onFailure=fields(policy=_POLICY),
        onSuccess=fields(policy=_POLICY),
    ),
    entrypoint=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    entrypointResources=TEXT,
    jobId=TEXT,
    managedBy=TEXT,
    metadata=TEXTS,
    preRunningDeadlineSeconds=WHOLE,
    rayClusterSpec=CLUSTER,
    runtimeEnvYAML=TEXT,
    shutdownAfterJobFinishes=SWITCH,
    submissionMode=TEXT,
    submitterConfig=fields(backoffLimit=WHOLE),
    submitterPodTemplate=KUBERNETES,
    suspend=SWITCH,
    ttlSecondsAfterFinished=WHOLE,
)

SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}
