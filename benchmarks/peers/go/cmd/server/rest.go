package main

import (
	"errors"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"
)

// heartbeatBody is the JSON of a heartbeat, with the names of the proto.
type heartbeatBody struct {
	WorkspaceID   string   `json:"workspace_id" binding:"required"`
	ErrorRate     *float64 `json:"error_rate"`
	SampleError   *string  `json:"sample_error"`
	ActiveTasks   *int32   `json:"active_tasks"`
	UptimeSeconds *int32   `json:"uptime_seconds"`
	CurrentTask   *string  `json:"current_task"`
	MonthlySpend  *float64 `json:"monthly_spend"`
	RuntimeState  string   `json:"runtime_state"`
}

type heartbeatAnswer struct {
	Status                string `json:"status"`
	PlatformInboundSecret string `json:"platform_inbound_secret"`
	WorkspaceStatus       string `json:"workspace_status"`
}

// newRouter serves POST /registry/heartbeat and nothing else, without logging.
func newRouter(tokens *Tokens, beats Beats) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.POST("/registry/heartbeat", func(c *gin.Context) {
		var body heartbeatBody
		if err := c.ShouldBindJSON(&body); err != nil {
			refuse(c, errInvalid)
			return
		}
		result, err := beatOf(c, body, tokens, beats)
		if err != nil {
			refuse(c, err)
			return
		}
		c.JSON(http.StatusOK, heartbeatAnswer{"ok", result.Secret, result.Status})
	})
	return router
}

func beatOf(c *gin.Context, b heartbeatBody, tokens *Tokens, beats Beats) (Result, error) {
	ctx := c.Request.Context()
	id, err := tokens.Require(ctx, c.GetHeader("Authorization"), b.WorkspaceID)
	if err != nil {
		return Result{}, err
	}
	beat, err := newBeat(
		id, b.ErrorRate, b.SampleError, b.ActiveTasks, b.UptimeSeconds, b.CurrentTask,
		b.MonthlySpend, b.RuntimeState,
	)
	if err != nil {
		return Result{}, err
	}
	return beats.Beat(ctx, beat)
}

func refuse(c *gin.Context, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, errUnauthenticated):
		status = http.StatusUnauthorized
	case errors.Is(err, errNotFound):
		status = http.StatusNotFound
	default:
		log.Print(err)
	}
	c.JSON(status, gin.H{"error": err.Error()})
}
