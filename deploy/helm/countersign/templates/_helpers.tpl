{{/* What all objects of the release are called by. */}}
{{- define "countersign.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "countersign" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-countersign" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of a component: (list $ "operator"). */}}
{{- define "countersign.name" -}}
{{- printf "%s-%s" (include "countersign.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{/* What pods of a component are found by: (list $ "operator"). */}}
{{- define "countersign.selector" -}}
app.kubernetes.io/name: countersign-{{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end -}}

{{/* Labels of a component: (list $ "operator"). */}}
{{- define "countersign.labels" -}}
{{- $ := index . 0 -}}
{{ include "countersign.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: countersign
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image: (list $ .Values.operator.image). */}}
{{- define "countersign.image" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $.Values.image.registry }}{{ . }}/{{ end -}}
{{- $image.repository }}:{{ $image.tag | default $.Values.image.tag | default $.Chart.AppVersion -}}
{{- end -}}

{{/* What `restricted` of the Pod Security Standards asks of a pod. */}}
{{- define "countersign.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The same of a container. */}}
{{- define "countersign.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What is the same in all pods: (list $ .Values.operator "operator"). */}}
{{- define "countersign.pod" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
enableServiceLinks: false
securityContext:
  {{- include "countersign.podSecurity" $ | nindent 2 }}
{{- with $.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "countersign.selector" (list $ (index . 2)) | nindent 8 }}
{{- end -}}

{{/* The secret with a plane's certificate: (list $ "controlPlane"). */}}
{{- define "countersign.tlsSecret" -}}
{{- $ := index . 0 -}}
{{- $plane := index . 1 -}}
{{- index $.Values.tls (printf "%sSecret" $plane) | default (printf "%s-%s-tls" (include "countersign.fullname" $) (kebabcase $plane)) -}}
{{- end -}}

{{/* The volume of that secret. */}}
{{- define "countersign.tlsVolume" -}}
- name: tls
  secret:
    secretName: {{ include "countersign.tlsSecret" . }}
    defaultMode: 0400
{{- end -}}

{{/* How pods of this release reach the control plane: (list $ .Values.operator). */}}
{{- define "countersign.controlPlaneUrl" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
{{- if $values.controlPlaneUrl -}}
{{- $values.controlPlaneUrl -}}
{{- else if $.Values.controlPlane.enabled -}}
{{- $scheme := ternary "http" "https" (eq $.Values.tls.mode "none") -}}
{{- printf "%s://%s.%s.svc:4180" $scheme (include "countersign.name" (list $ "control-plane")) $.Release.Namespace -}}
{{- else -}}
{{- fail "controlPlaneUrl is needed where controlPlane.enabled is false" -}}
{{- end -}}
{{- end -}}

{{/* What a client shows to the control plane, where both speak TLS. */}}
{{- define "countersign.clientTls" -}}
- --control-plane-ca=/etc/countersign/tls/ca.crt
- --client-cert=/etc/countersign/tls/tls.crt
- --client-key=/etc/countersign/tls/tls.key
{{- end -}}
