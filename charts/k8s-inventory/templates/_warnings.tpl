{{/* What is rendered as it was written, and is perhaps not what was meant; a line each. */}}
{{- define "k8s-inventory.warnings" -}}
{{- $inventory := .Values.k8sInventory }}
{{- if eq (toString $inventory.kubeconfig.cluster) "docker-desktop" }}
* k8sInventory.kubeconfig.cluster is docker-desktop, the placeholder of older charts. Another cluster that kept it overwrites this one's inventory: choose a name.
{{- end }}
{{- if $inventory.anchore.http.insecure }}
* k8sInventory.anchore.http.insecure is true: whoever is on the way to Anchore Enterprise can read the password. Trust its authority by caBundle instead.
{{- end }}
{{- if hasPrefix "localhost/" .Values.image.repository }}
* image.repository is {{ .Values.image.repository }}, which only nodes have that it was loaded into.
{{- end }}
{{- if or (regexMatch "^v?1\\.[0-9]+\\.[0-9]+" (default "" .Values.image.tag)) (hasSuffix "/anchore/k8s-inventory" .Values.image.repository) }}
* The image {{ include "k8s-inventory.image" . }} looks like Anchore's own agent, which would be restarted for ever here. If it is, remove image.tag and image.repository from your values.
{{- end }}
{{- if .Values.runsAsRoot }}
* The agent runs as root: runAsUser is 0, so runAsNonRoot was left out. It needs no such rights.
{{- end }}
{{- if and $inventory.anchore.password (not (include "k8s-inventory.ownSecret" .)) }}
* k8sInventory.anchore.password is not used: {{ .Values.injectSecretsViaEnv | ternary "injectSecretsViaEnv is true" "the password comes from existingSecretName" }}. Remove it.
{{- end }}
{{- if and .Values.injectSecretsViaEnv (or .Values.useExistingSecret .Values.existingSecretName) }}
* useExistingSecret and existingSecretName are not used: injectSecretsViaEnv is true.
{{- end }}
{{- if ne (toString $inventory.output) "json" }}
* k8sInventory.output has no effect.
{{- end }}
{{- if and (eq (toString .Values.rbac.scope) "namespaces") .Values.rbac.create }}
* Nodes are not reported: rbac.scope is namespaces.
{{- end }}
{{- with include "k8s-inventory.logFolder" . }}
* The log file is in an emptyDir ({{ . }}) of 1 GiB, and gone with the pod.
{{- end }}
{{- if and .Values.proxy.https (hasPrefix "http:" (lower (toString $inventory.anchore.url))) }}
* proxy.https is not used: k8sInventory.anchore.url is an http address.
{{- end }}
{{- if not .Values.periodic }}
{{- $unused := list }}
{{- if gt (int .Values.replicaCount) 1 }}{{- $unused = append $unused "replicaCount" }}{{- end }}
{{- if .Values.spool.persistence.enabled }}{{- $unused = append $unused "spool.persistence" }}{{- end }}
{{- if .Values.serviceMonitor.enabled }}{{- $unused = append $unused "serviceMonitor" }}{{- end }}
{{- with $unused }}
* Without effect in adhoc mode: {{ join ", " . }}.
{{- end }}
{{- end }}
{{- end }}
