{{/*
The spec of a pod of the agent. Takes the root and what the pod is for: `agent` (the Deployment's), `run` (one of the
CronJob's) or `check` (of `helm test`, which only reads the configuration).
*/}}
{{- define "k8s-inventory.podSpec" -}}
{{- $agent := and (eq .for "agent") .root.Values.periodic -}}
{{- with .root }}
serviceAccountName: {{ include "k8s-inventory.serviceAccountName" . }}
{{- if eq $.for "check" }}
automountServiceAccountToken: false
{{- end }}
enableServiceLinks: false
{{- if ne $.for "agent" }}
restartPolicy: Never
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- if kindIs "float64" .Values.terminationGracePeriodSeconds }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "hostAliases" "dnsConfig" }}
{{- with get $.root.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
containers:
  - name: {{ .Chart.Name }}
    image: {{ include "k8s-inventory.image" . | quote }}
    {{- with .Values.image.pullPolicy }}
    imagePullPolicy: {{ . }}
    {{- end }}
    command: [/anchore-k8s-inventory]
    {{- if eq $.for "check" }}
    args: [config, check]
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with include "k8s-inventory.secretName" . }}
    envFrom:
      - secretRef:
          name: {{ . | quote }}
      {{- with $.root.Values.extraEnvFrom }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- else }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- end }}
    env:
      {{- include "k8s-inventory.env" . | nindent 6 }}
    {{- if $agent }}
    ports:
      - name: http
        containerPort: 8080
        protocol: TCP
    {{- include "k8s-inventory.probes" . | trim | nindent 4 }}
    {{- end }}
    resources:
      {{- .Values.resources | default (dict "requests" (dict "cpu" "25m" "memory" "64Mi")) | toYaml | nindent 6 }}
    volumeMounts:
      {{- include "k8s-inventory.volumeMounts" (dict "root" . "agent" $agent) | nindent 6 }}
volumes:
  {{- include "k8s-inventory.volumes" (dict "root" . "agent" $agent) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "k8s-inventory.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- range $name, $value := dict "HTTPS_PROXY" .Values.proxy.https "NO_PROXY" .Values.proxy.noProxy }}
{{- if $value }}
- name: {{ $name }}
  valueFrom:
    configMapKeyRef:
      name: {{ include "k8s-inventory.fullname" $ }}
      key: {{ $name }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "k8s-inventory.probes" -}}
{{- $probes := dict "startup" "/livez" "liveness" "/livez" "readiness" "/readyz" -}}
{{- range $name := list "startup" "liveness" "readiness" }}
{{ $name }}Probe:
  httpGet:
    path: {{ get $probes $name }}
    port: http
  {{- with get $.Values.probes $name }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/*
The configuration is mounted as a single file: the user may mount something beside it. Names of volumes begin so that
they are not those of the user's.
*/}}
{{- define "k8s-inventory.volumeMounts" -}}
- name: config-volume
  mountPath: /etc/xdg/anchore-k8s-inventory/config.yaml
  subPath: config.yaml
  readOnly: true
{{- if .agent }}
- name: anchore-spool
  mountPath: /var/lib/anchore-k8s-inventory
{{- end }}
{{- with .root }}
{{- if include "k8s-inventory.routePasswords" . }}
- name: anchore-routes
  mountPath: /etc/anchore-k8s-inventory/routes
  readOnly: true
{{- end }}
{{- if include "k8s-inventory.caFile" . }}
- name: anchore-ca
  mountPath: /etc/anchore-k8s-inventory/ca
  readOnly: true
{{- end }}
{{- if .Values.clientCertificate.existingSecret }}
- name: anchore-client-certificate
  mountPath: /etc/anchore-k8s-inventory/client
  readOnly: true
{{- end }}
{{- with include "k8s-inventory.logVolume" $ }}
- name: anchore-log
  mountPath: {{ . | quote }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the log's own volume is mounted, if it needs one. Takes root and agent. */}}
{{- define "k8s-inventory.logVolume" -}}
{{- $folder := include "k8s-inventory.logFolder" .root -}}
{{- if not (and .agent (eq $folder "/var/lib/anchore-k8s-inventory")) -}}{{- $folder -}}{{- end -}}
{{- end }}

{{- define "k8s-inventory.volumes" -}}
{{- $fullname := include "k8s-inventory.fullname" .root -}}
- name: config-volume
  configMap:
    name: {{ $fullname }}
    items:
      - key: config.yaml
        path: config.yaml
{{- if .agent }}
- name: anchore-spool
  {{- if .root.Values.persistent }}
  persistentVolumeClaim:
    claimName: {{ .root.Values.spool.persistence.existingClaim | default (printf "%s-spool" $fullname) | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .root.Values.spool.size | default "1Gi" | quote }}
  {{- end }}
{{- end }}
{{- with .root }}
{{- if include "k8s-inventory.routePasswords" . }}
- name: anchore-routes
  secret:
    secretName: {{ $fullname }}-routes
{{- end }}
{{- if include "k8s-inventory.caFile" . }}
- name: anchore-ca
  {{- if .Values.caBundle.existingSecret }}
  secret:
    secretName: {{ .Values.caBundle.existingSecret | quote }}
  {{- else }}
  configMap:
    name: {{ .Values.caBundle.existingConfigMap | default $fullname | quote }}
    {{- if .Values.caBundle.inline }}
    items:
      - key: ca.crt
        path: ca.crt
    {{- end }}
  {{- end }}
{{- end }}
{{- with .Values.clientCertificate.existingSecret }}
- name: anchore-client-certificate
  secret:
    secretName: {{ . | quote }}
{{- end }}
{{- if include "k8s-inventory.logVolume" $ }}
- name: anchore-log
  emptyDir:
    sizeLimit: 1Gi
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Metadata of the pods that run the agent. The checksums start new pods when what they read at start has changed. */}}
{{- define "k8s-inventory.podMetadata" -}}
labels:
  {{- $own := include "k8s-inventory.labels" . | fromYaml }}
  {{- merge $own (default dict .Values.podLabels) | toYaml | nindent 2 }}
annotations:
  {{- $annotations := dict "checksum/config" (include "k8s-inventory.configMapData" . | sha256sum) }}
  {{- $passwords := include "k8s-inventory.routePasswords" . }}
  {{- if include "k8s-inventory.ownSecret" . }}{{- $passwords = print $passwords .Values.k8sInventory.anchore.password }}{{- end }}
  {{- if $passwords }}
  {{- /* Who may read pods may not be able to try passwords against this: scrypt before the hash. */}}
  {{- $derived := derivePassword 1 "long" $passwords (include "k8s-inventory.fullname" .) .Release.Namespace }}
  {{- $_ := set $annotations "checksum/secrets" (sha256sum $derived) }}
  {{- end }}
  {{- merge $annotations (default dict .Values.podAnnotations) (default dict .Values.annotations) | toYaml | nindent 2 }}
{{- end }}
